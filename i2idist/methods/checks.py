"""Refusals that methods share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from i2idist.errors import ConfigError, SizeError, nearest
from i2idist.method import Domains


def check_choice(key: str, value: str, options: Sequence[str]) -> None:
    """Refuse a setting that is none of `options`.

    Raises:
        ConfigError: names the nearest option.
    """
    if value not in options:
        raise ConfigError(f"method.{key} is '{value}', which is none of {', '.join(options)}.{nearest(value, options)}")


def check_at_least(smallest: float, **values: float | None) -> None:
    """Refuse settings below `smallest`; None is allowed.

    Raises:
        ConfigError: names the first such setting.
    """
    for key, value in values.items():
        if value is not None and value < smallest:
            raise ConfigError(f"method.{key} is {value}: it must be at least {smallest}.")


def check_probability(key: str, value: float) -> None:
    """Refuse a probability outside [0, 1).

    Raises:
        ConfigError: names the setting.
    """
    if not 0 <= value < 1:
        raise ConfigError(f"method.{key} is {value}: it must be in [0, 1).")


def check_target(target: str, known: Sequence[str]) -> None:
    """Refuse a domain or label that the method doesn't translate to.

    Raises:
        ConfigError: names those it does.
    """
    if target not in known:
        raise ConfigError(
            f"target is '{target}', but this method translates to {' or '.join(known)} only.{nearest(target, known)}"
        )


def check_equal_sizes(domains: Domains, what: str) -> None:
    """Refuse domains whose images differ in size.

    Raises:
        SizeError: names both sizes.
    """
    a, b = domains.a, domains.b
    if (a.height, a.width) != (b.height, b.width):
        raise SizeError(
            f"{what} takes images of one size, but those of {a.name} are {a.height}x{a.width} and those of {b.name} "
            f"{b.height}x{b.width}: set data.size, e.g. data.size=[{b.height},{b.width}]."
        )


def check_encoded(size: Sequence[int], levels: int, key: str) -> None:
    """Refuse an image that is too small, by its height and width, for `levels` halvings, which `method.KEY` sets.

    Raises:
        SizeError: names the smallest size that isn't.
    """
    if min(size) < 2**levels:
        raise SizeError(
            f"The encoder with {levels} halvings takes images of at least {2**levels}x{2**levels}, not "
            f"{size[0]}x{size[1]}: use larger ones, or train with a smaller method.{key}."
        )


def require_code(code: Tensor | None, x: Tensor, code_dim: int) -> Tensor:
    """The code in the images' dtype.

    Raises:
        ConfigError: it is missing or not (N, code_dim).
    """
    if code is None or code.shape != (len(x), code_dim):
        got = "none was given" if code is None else f"got one of shape {tuple(code.shape)}"
        raise ConfigError(
            f"Each of the {len(x)} images needs a code of length {code_dim}, but {got}: draw it from N(0, I)."
        )
    return code.to(x.dtype)


def check_style(image: Tensor, channels: int, smallest: int) -> None:
    """Refuse an image that can't give its style: it must be (channels, H, W) with sides of at least `smallest` pixels.

    Raises:
        ConfigError: says what it is, and what it should be.
    """
    if image.dim() != 3 or len(image) != channels or min(image.shape[1:]) < smallest:
        raise ConfigError(
            f"style_from is {tuple(image.shape)}: give one image of the target domain, ({channels}, H, W) with at "
            f"least {smallest} pixels a side."
        )


def check_sources(sources: Collection[str] | None, needed: Mapping[str, str]) -> None:
    """Refuse a run that starts without a pretrained part that its method needs, or with one that it has no use for.

    Args:
        sources: the names given; None: a checkpoint follows, and nothing is needed.
        needed: what each part is, by name.

    Raises:
        ConfigError: says which, and what to write into the recipe.
    """
    if sources is None:
        return
    for name in needed.keys() - set(sources):
        raise ConfigError(f"This method starts from {needed[name]}: name it in the recipe, `sources: {{{name}: URI}}`.")
    for name in set(sources) - needed.keys():
        raise ConfigError(
            f"The recipe names sources.{name}, which this configuration has no use for.{nearest(name, needed)}"
        )
