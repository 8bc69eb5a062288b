"""Labels as methods of several domains use them: vectors, targets by name, their classification loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.data.batches import Labelled
from i2idist.errors import ConfigError, nearest
from i2idist.losses.classification import binary_cross_entropy, cross_entropy
from i2idist.method import Domains, Step


@dataclass(frozen=True)
class Labels:
    """The labels that a method translates between: classes, one an image, or attributes, any number an image.

    Attributes:
        names: of the labels, in the order of their vectors' elements.
        columns: where attributes stand in the dataset's vectors; none for classes.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...] = ()

    @classmethod
    def of(cls, domains: Domains, attributes: tuple[str, ...]) -> Labels:
        """The dataset's classes, or those `attributes` of it.

        Raises:
            ConfigError: the dataset has no such attribute, or too few classes.
        """
        for name in attributes:
            if name not in domains.labels:
                raise ConfigError(
                    f"method.attributes names '{name}', which the dataset doesn't have.{nearest(name, domains.labels)}"
                )
        if attributes:
            return cls(tuple(attributes), tuple(domains.labels.index(name) for name in attributes))
        if len(domains.labels) < 2:
            raise ConfigError(
                f"The dataset's labels are {list(domains.labels)}, but translation between classes takes two or more: "
                "use another dataset, or name attributes in method.attributes."
            )
        return cls(domains.labels)

    def __len__(self) -> int:
        """The length of a vector."""
        return len(self.names)

    def read(self, batch: Labelled) -> Tensor:
        """The labels of a batch's images: (N, L) in {0, 1}, in the images' dtype.

        Raises:
            ConfigError: the dataset has attributes where classes are wanted, or the reverse.
        """
        if (batch.y.dim() == 1) == bool(self.columns):
            raise ConfigError(
                "The dataset gives each image one class, not attributes: leave method.attributes empty."
                if self.columns
                else "The dataset gives each image attributes, not a class: name some in method.attributes."
            )
        if self.columns:
            return batch.y[:, list(self.columns)].to(batch.x.dtype)
        return functional.one_hot(batch.y, len(self)).to(batch.x.dtype)

    def target(self, target: str, x: Tensor) -> Tensor:
        """The labels that images are translated to: a name, or attributes joined by `+`, which leaves out all others.

        Args:
            target: `NAME` or `NAME+NAME+...`.
            x: (N, C, H, W), the images.

        Returns:
            (N, L) in {0, 1}, in the images' dtype.

        Raises:
            ConfigError: names what can be a target.
        """
        wanted = target.split("+") if self.columns else [target]
        vector = torch.zeros(len(self), dtype=x.dtype, device=x.device)
        for name in wanted:
            if name not in self.names:
                joined = ", or several joined by +" if self.columns else ""
                raise ConfigError(
                    f"target is '{target}', but this method translates to {', '.join(self.names)}{joined}."
                    f"{nearest(name, self.names)}"
                )
            vector[self.names.index(name)] = 1
        return vector.expand(len(x), -1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """-log of the probability of the labels, softmax for classes, sigmoids for attributes: two (N, L) -> (N,)."""
        return (binary_cross_entropy if self.columns else cross_entropy)(logits, labels)


def shuffled(labels: Tensor, step: Step) -> Tensor:
    """Labels of other images of the global batch, in random order: (N, L) -> (N, L)."""
    comm = step.comm
    rank = labels.new_full((len(labels), 1), comm.rank)
    everyone = comm.gather(torch.cat([labels, rank], dim=1))
    order = step.permutation("labels", len(everyone)).to(labels.device)
    return everyone[order][everyone[:, -1] == comm.rank, :-1]
