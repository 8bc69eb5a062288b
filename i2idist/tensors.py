"""Weight files beside a card such as `model.json`: named by the card, of one digest, holding nothing but tensors."""

from __future__ import annotations

from typing import Annotated

import safetensors
import safetensors.torch
from pydantic import Field
from torch import Tensor

from i2idist.errors import SourceError

WeightsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.safetensors$")]
"""A file in the card's own folder: what comes from outside can name no other."""


def parse_tensors(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name; nothing is unpickled.

    Args:
        data: the file's bytes.
        where: it came from, for messages.

    Raises:
        SourceError: it is none: a header that is too large, or claims what the file doesn't hold.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise SourceError(f"{where} holds no safetensors: {error}.") from error
