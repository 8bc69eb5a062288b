"""Who is trained how: each method's optimizers against the papers and `baselines.md`, since losses don't show them."""

import pytest

from i2idist.method import Adam, Schedule
from i2idist.methods import METHODS
from tests.methods.labelled import labelled_domains
from tests.methods.support import domains

USUAL = (0.5, 0.999)
CONSTANT, HALF = (1.0, 1.0), (1.0, 0.5)
"""The schedule's factor at half of training and at three quarters."""

HALVED = Schedule(step_every_images=100_000)
DRIT = Adam(lr=1e-4, betas=USUAL, weight_decay=1e-4)
CONTENT = Adam(lr=4e-5, betas=USUAL, weight_decay=1e-4, clip_norm=5.0)
MUNIT = Adam(lr=1e-4, betas=USUAL, weight_decay=1e-4)
BICYCLE = Adam(lr=2e-4, betas=USUAL)
UNIT = Adam(lr=1e-4, betas=USUAL)
TIGAN = Adam(lr=1e-4, betas=(0.9, 0.999))
ICGAN, INVERSE = Adam(lr=2e-4, betas=USUAL), Adam(lr=1e-4, betas=(0.1, 0.999))

PUBLISHED = {
    "munit": ({"discriminators": MUNIT, "autoencoders": MUNIT}, HALVED),
    "udit": ({"discriminators": MUNIT, "translators": MUNIT}, HALVED),
    "munit_pi": ({"discriminators": MUNIT, "translators": MUNIT}, HALVED),
    "unit": ({"discriminators": UNIT, "generators": UNIT}, CONSTANT),
    "unit_adaptation": ({"discriminators": UNIT, "generators": UNIT}, CONSTANT),
    "tigan": ({"translator": TIGAN, "discriminator": TIGAN, "statistics": TIGAN}, CONSTANT),
    "bicyclegan": ({"generator": BICYCLE, "discriminator": BICYCLE}, HALF),
    "msgan": ({"generator": BICYCLE, "discriminator": BICYCLE}, HALF),
    "drit": ({"content_discriminator": CONTENT, "discriminator": DRIT, "generator": DRIT}, HALF),
    "msgan_drit": ({"content_discriminator": CONTENT, "discriminator": DRIT, "generator": DRIT}, HALF),
    "stargan": ({"discriminator": UNIT, "generator": UNIT}, HALF),
    "stargan_modal": ({"discriminator": UNIT, "generator": UNIT}, HALF),
    "sdit": ({"discriminator": UNIT, "generator": UNIT}, CONSTANT),
    "icgan": ({"discriminator": ICGAN, "generator": ICGAN, "encoders": INVERSE}, CONSTANT),
}
FIELDS = ("lr", "content_lr", "content_clip", "encoder_lr", "betas", "encoder_betas", "weight_decay", "lr_hold")
FIELDS += ("lr_halve_every_images",)


def with_defaults(name):
    """The method on its first tiny config, but for the published settings of optimizers."""
    kind = METHODS[name]
    tiny, default = next(iter(kind.tiny().values())), kind.Config()
    published = {field: getattr(default, field) for field in FIELDS if hasattr(default, field)}
    data = domains(3, 3) if name not in ("stargan", "sdit", "icgan") else labelled_domains()
    if name == "unit_adaptation":
        data = type(data)(data.images, ("zero", "one"))
    return kind(kind.Config(**{**vars(tiny), **published}), data)


@pytest.mark.parametrize("name", PUBLISHED)
def test_optimizers_and_schedules_are_the_published_ones(name):
    optimizers, schedule = PUBLISHED[name]
    players = with_defaults(name).players()
    assert {player.name: player.optimizer for player in players} == optimizers
    for player in players:
        if isinstance(schedule, Schedule):
            assert player.schedule == schedule
        else:
            assert tuple(player.schedule.factor(n, 1000) for n in (500, 750)) == schedule
