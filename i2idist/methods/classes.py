"""Weights that belong to classes, where a GAN starts from one of other classes, from one of none, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = Mapping[str, Tensor]
_HEAD = ("classes.weight", "classes.bias")


@dataclass(frozen=True)
class Classes:
    """The classes of a GAN and of the source that it starts from.

    Attributes:
        own: the names of its own; empty: it has none.
        theirs: the names of the source's; empty: they aren't known.
        count: how many the source has; 0: none.
    """

    own: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    count: int = 0

    def adapted(self, own: State, found: State) -> dict[str, Tensor]:
        """The source's network with the GAN's classes.

        What belongs to a class of the source comes to the class of the same name; to all others, and where there are
        none, the mean over the source's classes. Classes of unknown names are the same if there are as many.
        Weights that read an appended class of a GAN whose source has none, and an auxiliary classifier of other classes
        than the source's, keep their random values.

        Args:
            own: the state of the GAN's G or D.
            found: that of the source's, where each shape that classes have no part in is left as it is.
        """
        made = dict(found)
        for key in own.keys() & found.keys():
            if key.startswith("norm.") or ".norm_" in key:
                made[key] = self._norm(own[key], found[key])
        made |= self._first_layer(own, found)
        for key in _HEAD:
            head = made.pop(key, None)
            if key not in own:
                continue
            if head is None or sorted(self._known(self.count)) != sorted(self.own):
                made[key] = own[key]
            else:
                made[key] = self._mixing(self.own, self.count).to(head) @ head
        return made

    def _known(self, count: int) -> tuple[str, ...]:
        """The names of a source's classes, which are so many; empty where they aren't known."""
        if len(self.theirs) == count:
            return self.theirs
        return self.own if len(self.own) == count else ()

    def _mixing(self, wanted: tuple[str, ...], count: int) -> Tensor:
        """What each of the wanted classes takes of each of the source's, (N, count); without any of all, (1, count)."""
        known = {name: place for place, name in enumerate(self._known(count))}
        mixing = torch.full((max(1, len(wanted)), count), 1 / count)
        for row, name in zip(mixing, wanted, strict=False):
            if name in known:
                row.zero_()[known[name]] = 1
        return mixing

    def _norm(self, own: Tensor, found: Tensor) -> Tensor:
        """Scales or shifts of batch norm: (C,), or of every class (classes, C)."""
        if max(own.dim(), found.dim()) != 2:
            return found
        rows = found if found.dim() == 2 else found[None]
        mixed = self._mixing(self.own if own.dim() == 2 else (), len(rows)).to(rows) @ rows
        return mixed if own.dim() == 2 else mixed[0]

    def _first_layer(self, own: State, found: State) -> dict[str, Tensor]:
        """G's, which reads the code, and behind it the class where batch norm doesn't."""
        needed = {"linear.weight", "linear.bias", "norm.weight"}
        if not needed <= own.keys() & found.keys() or len(own["linear.weight"]) != len(found["linear.weight"]):
            return {}
        news, theirs = (
            number if state["norm.weight"].dim() == 1 else 0
            for state, number in ((own, len(self.own)), (found, self.count))
        )
        weight, bias = found["linear.weight"], found["linear.bias"]
        code, columns = weight[:, : weight.shape[1] - theirs], weight[:, weight.shape[1] - theirs :]
        if news and theirs:
            return {"linear.weight": torch.cat([code, columns @ self._mixing(self.own, theirs).to(columns).T], dim=1)}
        if news:
            random = own["linear.weight"][:, -news:]
            return {"linear.weight": torch.cat([code, random.to(code)], dim=1)}
        return {"linear.weight": code, "linear.bias": bias + columns.mean(1)} if theirs else {}
