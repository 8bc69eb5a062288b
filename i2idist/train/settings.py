"""How training runs, apart from the method and the data: the `train:` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from i2idist.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training loop. Lengths are counted in images: samples drawn by all workers together.

    Attributes:
        total_images: length of training.
        batch_size: samples in the *global* batch, whatever the number of workers.
        precision: arithmetic of the forward pass. `bfloat16` is autocast over float32 parameters.
        channels_last: memory format of networks and images; faster for some sizes and slower for others: measure.
        compile: compile every network with `torch.compile`; not for methods that need second derivatives.
        accumulate: micro-batches per update. Equal to the whole batch only for losses that are sums over samples:
            batch norm and whole-batch estimates see a micro-batch each.
        ema_half_life_images: half-life of the moving average of parameters, for players that keep one; None: none is
            kept.
        log_every_images: interval of logged metrics.
        preview_every_images: interval of pictures for tracking, besides those at the start, at validations and at
            checkpoints; None: only those.
        validate_every_images: interval of validation; None: never.
        validation_images: at most so many samples of the validation split are used; None: all.
        checkpoint_every_images: interval of checkpoints; one more is written at the end and at a stop.
        keep_checkpoints: how many of the latest are kept; the best is kept besides.
        validate_protocols: protocols that validation measures by as well, such as `diversity-sdit`; `NAME:NETWORK`
            names a network. On at most `validation_images` inputs.
        best_metric: the validation value that picks the best checkpoint, such as `generator/l1`, or `eval/PROTOCOL` for
            a protocol's; None: no best is kept.
        best_mode: whether smaller or larger is better.
        patience: stop early after so many validations in a row without a new best; None: never.
    """

    total_images: int
    batch_size: int
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    channels_last: bool = False
    compile: bool = False
    accumulate: int = 1
    ema_half_life_images: int | None = None
    log_every_images: int = 1000
    preview_every_images: int | None = None
    validate_every_images: int | None = None
    validation_images: int | None = None
    validate_protocols: tuple[str, ...] = ()
    checkpoint_every_images: int = 50_000
    keep_checkpoints: int = 2
    best_metric: str | None = None
    best_mode: Literal["min", "max"] = "min"
    patience: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: a length or interval below 1, or a criterion without validation.
        """
        positive = (
            "total_images",
            "batch_size",
            "accumulate",
            "ema_half_life_images",
            "log_every_images",
            "preview_every_images",
            "validate_every_images",
            "validation_images",
            "checkpoint_every_images",
            "keep_checkpoints",
            "patience",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"train.{name} is {value}: it must be at least 1.")
        if self.validate_protocols and not self.validate_every_images:
            raise ConfigError("train.validate_protocols needs validation: set train.validate_every_images.")
        if self.best_metric and not self.validate_every_images:
            raise ConfigError("train.best_metric needs validation: set train.validate_every_images.")
        if self.patience and not self.best_metric:
            raise ConfigError("train.patience needs a criterion: set train.best_metric.")
