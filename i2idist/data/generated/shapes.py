"""Objects of four colours, labelled: shoes, bags, vases and cars in many shades of red, yellow, green or blue.

image: the object on a softly tinted floor with a shadow. 3 channels.
label: the colour, which is the domain; family, outline and floor are drawn apart from it and are the content. Or the
    family, for GANs.

Where a dataset is of some families alone, it is a source or a target of GAN transfer: mixtures have known ratios.

The colours are drawn apart from the drawing, so that the very same object can be asked for in another domain or shade.
"""

from __future__ import annotations

import colorsys
import math

from i2idist.data.generated import edges
from i2idist.data.generated._draws import Bytes, Rng, rng_of

COLOURS = {"red": 0.99, "yellow": 0.14, "green": 0.36, "blue": 0.61}
"""The middle hue of each domain, in turns, in the order of the labels 0..3."""

HUE_SPREAD = 0.035
"""A shade's hue lies within so many turns of its domain's."""


FAMILIES: dict[str, tuple[str, ...]] = {
    "all": (),
    **{name: (name,) for name in edges.FAMILIES},
    **{f"no-{name}": tuple(other for other in edges.FAMILIES if other != name) for name in edges.FAMILIES},
    **{f"{n}-shoes-of-10": ("shoe",) * n + ("bag",) * (10 - n) for n in (3, 5, 7)},
}
"""Families by the name of the choice, in turn by place; of none, each is drawn. The last mix shoes and bags."""


def family_at(choice: str, place: int) -> str | None:
    """The family of the object at a place of a split; None: it is drawn."""
    families = FAMILIES[choice]
    return families[place % len(families)] if families else None


def _palette(rng: Rng, label: int) -> dict[str, edges.Colour]:
    """A colour for every role: shades of the domain's hue; what edges, too, paints alike or in metal stays so."""
    hue = list(COLOURS.values())[label] + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    saturation, value = rng.uniform(0.5, 1.0), rng.uniform(0.35, 1.0)
    colours = edges.palette(rng)
    colours["body"] = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    for role in ("flap", "trim", "sole"):
        lighter = rng.uniform(0.7, 1.3)
        colours[role] = colorsys.hsv_to_rgb(hue % 1, min(1.0, saturation / lighter), min(1.0, value * lighter))
    return colours


def picture(
    key: tuple[str | int, ...], size: tuple[int, int], label: int, shade: int = 0, family: str | None = None
) -> tuple[Bytes, int]:
    """An object in one of the colours.

    Args:
        key: names the object; equal keys give the same outline on the same floor at any size.
        size: (H, W) in pixels.
        label: index into COLOURS.
        shade: which of the colour's shades.
        family: a key of edges.FAMILIES; None: drawn.

    Returns:
        The image (H, W, 3) bytes, and the object's family, an index into edges.FAMILIES.
    """
    rng = rng_of(*key, "shape")
    names, drawn = list(edges.FAMILIES), int(rng.integers(0, len(edges.FAMILIES)))
    number = drawn if family is None else names.index(family)
    parts = edges.placed(rng, edges.FAMILIES[names[number]](rng), size)
    floor = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.7, 1.0))
    paint = rng_of(*key, "colour", label, shade)
    scale = max(3, math.ceil(128 / min(size)))
    return edges.painted(paint, _palette(paint, label), parts, size, scale, floor), number
