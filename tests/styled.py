"""A tiny model for tests of loading and serving, and a method that takes an image's style."""

import torch
from torch import Tensor

from i2idist import model
from i2idist.method import Domain, Domains
from i2idist.methods import SEGAN

DOMAINS = Domains((Domain("a", 1, 16, 16), Domain("b", 3, 16, 16)))


class Styled(SEGAN):
    def translate(
        self, x: Tensor, code: Tensor | None = None, *, target: str = "b", style_from: Tensor | None = None
    ) -> Tensor:
        out = super().translate(x, code, target=target)
        return out if style_from is None else style_from.mean((1, 2))[:, None, None].expand_as(out)


def save_tiny(url: str, seed: int = 0, method_name: str = "segan", **lineage: str) -> model.ModelCard:
    cls = Styled if method_name.endswith("Styled") else SEGAN
    torch.manual_seed(seed)
    method = cls(SEGAN.tiny()["unpaired_jsd"], DOMAINS)
    for parameter in method.parameters():  # larger than the initial ones, so that the code shows in the output
        parameter.data.mul_(8)
    return model.save(url, method, method_name=method_name, domains=DOMAINS, lineage=lineage)
