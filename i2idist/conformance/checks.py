"""One function for each promise. Each returns the ways in which a method breaks it; none means that it is kept."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from i2idist.conformance.pool import WorkerPool
from i2idist.conformance.training import (
    SEED,
    Case,
    Trace,
    batches,
    changed_by_updates,
    largest_weight,
    make_batch,
    settings,
    train,
)
from i2idist.data.batches import Batch, Images, Multimodal
from i2idist.errors import CheckpointError, SizeError
from i2idist.method import Domains, Method
from i2idist.methods import load_method
from i2idist.model import labels_of
from i2idist.randomness import key_of, normal, sample_keys
from i2idist.train.checkpoint import Checkpoints, copy_into
from i2idist.train.comm import Comm
from i2idist.train.trainer import Trainer

STEPS = 5
GRADIENT_TOLERANCE = 1e-10
PARAMETER_TOLERANCE = 1e-9
ALONE_TOLERANCE = 1e-12
ALONE_ROUNDING = 4e-6
"""What float32 may round differently: torch has other kernels for one small image than for six, and features of size 20
then differ by 7e-6. Real dependence is told apart in float64.
"""

Check = Callable[[Case, WorkerPool], list[str]]


def cases_of(method: str, every: bool = False) -> list[Case]:
    """A method's tiny configs as cases: the first, or every one."""
    configs = list(load_method(method).tiny().items())
    return [Case(method, name, config) for name, config in (configs if every else configs[:1])]


def _alone(case: Case, pool: WorkerPool) -> Trace:
    """What one worker does, in float64. Two checks of a case compare with it."""
    trace: Trace = pool.again(train, 1, case=case, precision="float64", steps=STEPS, total_steps=STEPS)
    return trace


def any_number_of_workers(case: Case, pool: WorkerPool) -> list[str]:
    """1, 2, 3 and 4 workers give the same gradients, parameters, averages and optimizer state, in float64."""
    one = _alone(case, pool)
    problems = [] if one.gradients else ["no update ran"]
    for world_size in (2, 3, 4):
        many = pool.run(train, world_size, case=case, precision="float64", steps=STEPS, total_steps=STEPS)
        problems += compare(one, many, largest_weight(case), f"{world_size} workers")
    return problems


def stopped_after_any_step(case: Case, pool: WorkerPool) -> list[str]:
    """Saved, ended and resumed after every step equals uninterrupted, bit for bit, alone and with two workers."""
    problems = []
    for world_size in (1, 2):
        arguments = {"case": case, "precision": "float32", "steps": STEPS, "total_steps": STEPS}
        whole = pool.run(train, world_size, **arguments)
        with tempfile.TemporaryDirectory() as folder:
            parts = pool.run(train, world_size, **arguments, save=folder, interrupt_every_step=True)
        differing = [name for name, tensor in whole.tensors.items() if not torch.equal(tensor, parts.tensors[name])]
        if differing:
            problems.append(
                f"{world_size} workers: differs after resuming: {', '.join(differing[:5])} ({len(differing)} tensors)"
            )
    return problems


def resumed_by_other_workers(case: Case, pool: WorkerPool) -> list[str]:
    """Begun by 3 workers, continued by 2, ended by 4: equal to one worker throughout, within tolerance."""
    one = _alone(case, pool)
    gradients = []
    with tempfile.TemporaryDirectory() as folder:
        for world_size, steps, resume in ((3, 2, None), (2, 1, folder), (4, STEPS - 3, folder)):
            part = pool.run(
                train,
                world_size,
                case=case,
                precision="float64",
                steps=steps,
                total_steps=STEPS,
                resume=resume,
                save=folder,
            )
            gradients += part.gradients
    return compare(one, Trace(gradients, part.tensors), largest_weight(case), "3, then 2, then 4 workers")


def updates_change_their_player(case: Case, pool: WorkerPool) -> list[str]:
    """Each update changes parameters of its player, and no other's."""
    method = case.build()
    owned = {p.name: tuple(f"{network}." for network in p.networks) for p in method.players()}
    problems, moved = [], set()
    for name, changed in pool.run(changed_by_updates, 2, case=case, steps=3):
        if not name:
            problems += [f"{key} changed while losses were computed" for key in changed[:3]]
            continue
        player = next(p for p in sorted(owned, key=len, reverse=True) if name.startswith(p))
        others = [key for key in changed if not key.startswith(owned[player])]
        if others:
            problems.append(
                f"update '{name}' of player '{player}' changed {', '.join(others[:3])} ({len(others)} parameters)"
            )
        moved |= {network for network in owned[player] if any(key.startswith(network) for key in changed)}
    still = sorted({network for networks in owned.values() for network in networks} - moved)
    return problems + ([f"no update changed {', '.join(n.rstrip('.') for n in still)}"] if still else [])


def checkpoints_without_pickle(case: Case, pool: WorkerPool) -> list[str]:
    """A checkpoint is safetensors and JSON, comes back bit for bit, and names missing and unknown keys."""
    trainer = _trainer(case, "float32")
    state = trainer.state()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        name = checkpoints.save(state, trainer.images)
        checkpoints.wait()
        files = sorted(path.name for path in Path(checkpoints.url(name)).iterdir())
        if files != ["COMMIT.json", "state.json", "state.safetensors"]:
            problems.append(f"a checkpoint holds {', '.join(files)}")
        read = checkpoints.load(name)
    if any(not torch.equal(read.tensors[n], t) for n, t in state.tensors.items()) or dict(read.rest) != dict(
        state.rest
    ):
        problems.append("a checkpoint doesn't come back bit for bit")
    first = sorted(read.tensors)[0]
    without = {n: t for n, t in read.tensors.items() if n != first}
    for kind, saved, key in (
        ("missing", without, first),
        ("unknown", {**read.tensors, "no.such": read.tensors[first]}, "no.such"),
    ):
        try:
            copy_into(state.tensors, saved, "checkpoint")
            problems.append(f"a checkpoint with a {kind} key is accepted")
        except CheckpointError as error:
            if key not in str(error):
                problems.append(f"the error for a {kind} key doesn't name it: {error}")
    return problems


def translation_is_a_function(case: Case, pool: WorkerPool) -> list[str]:
    """`translate`, or `sample`, keeps size and range and depends on (input, code) alone, whatever the target."""
    method, exact = (_trainer(case, precision).method for precision in ("float32", "float64"))
    problems = []
    with torch.no_grad():
        for target in _targets(method):
            method.train()
            found = [*_translation_problems(case, method, target), *_neighbours_matter(case, exact, target)]
            problems += [f"target {target}: {problem}" if target else problem for problem in found]
    return problems


def _targets(method: Method) -> tuple[str | None, ...]:
    return method.targets or (None,)


def _outputs(method: Method, target: str | None, x: Tensor, code: Tensor | None) -> Tensor:
    """The method's outputs for images and codes, or for codes alone: (N, C, H, W)."""
    if not method.generates:
        return method.translate(x, code, **({} if target is None else {"target": target}))
    assert code is not None, "a method that generates has codes"
    return method.sample(code, labels_of(method, torch.arange(len(code)), target))


def _neighbours_matter(case: Case, exact: Method, target: str | None) -> list[str]:
    """Whether outputs depend on the rest of their batch, which float64 tells from rounding."""
    x, code = _inputs(case, exact, range(6), target)
    error = _off_alone(functools.partial(_outputs, exact, target), x.double(), None if code is None else code.double())
    return [] if error <= ALONE_TOLERANCE else [f"translate depends on the batch: off by {error:.2g} in float64"]


def _off_alone(translate: Callable[..., Tensor], x: Tensor, code: Tensor | None) -> float:
    """How far outputs of a batch are from those of its samples, one at a time."""
    alone = [translate(x[i : i + 1], None if code is None else code[i : i + 1]) for i in range(len(x))]
    return float((torch.cat(alone) - translate(x, code)).abs().max())


def _translation_problems(case: Case, method: Method, target: str | None) -> list[str]:
    x, code = _inputs(case, method, range(6), target)
    translate = functools.partial(_outputs, method, target)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    y = translate(x, code)
    problems = []
    channels = case.domains.route(target)[1].channels
    if y.shape != (6, channels, *case.size):
        problems.append(f"translate gives {list(y.shape)} for 6 images to {channels}x{case.size[0]}x{case.size[1]}")
    if not bool((y.abs() <= 1).all()):
        problems.append(f"translate leaves [-1, 1]: {float(y.min()):.4g} to {float(y.max()):.4g}")
    if not torch.equal(y, translate(x, code)):
        problems.append("translate twice on the same batch differs")
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    if not torch.equal(translate(x[order], None if code is None else code[order]), y[order]):
        problems.append("translate depends on a sample's place in the batch")
    error = _off_alone(translate, x, code)
    if not error <= ALONE_ROUNDING:
        problems.append(f"translate depends on the batch: off by {error:.2g} one at a time")
    method.eval()
    if not torch.equal(y, translate(x, code)):
        problems.append("translate depends on train() or eval()")
    if any(not torch.equal(before[n], t) for n, t in method.state_dict().items()):
        problems.append("translate changes the method's state")
    if code is not None and torch.equal(y, translate(x, -code)):
        problems.append("translate ignores the code")
    if (
        method.generates
        and target
        and torch.equal(y, _outputs(method, next(t for t in method.targets if t != target), x, code))
    ):
        problems.append("sample ignores the label")
    return problems


def odd_and_oblong_sizes(case: Case, pool: WorkerPool) -> list[str]:
    """Sizes that are odd or not square train and translate, or are refused with sizes that do."""
    problems = []
    for size in ((15, 17), (16, 24), (20, 12), (18, 22)):
        try:
            problems += _size_problems(replace(case, size=size))
        except SizeError as error:
            named = re.findall(r"(\d+)x(\d+)", str(error))
            if "multiples of" not in str(error) or not named:
                problems.append(f"{size[0]}x{size[1]} is refused without naming sizes that work: {error}")
            else:
                problems += _size_problems(replace(case, size=(int(named[-1][0]), int(named[-1][1]))))
    return problems


def _size_problems(case: Case) -> list[str]:
    """Train and translate at the case's size."""
    trainer = _trainer(case, "float32")
    with torch.no_grad():
        target = _targets(trainer.method)[0]
        y = _outputs(trainer.method, target, *_inputs(case, trainer.method, range(2), target))
    height, width = case.size
    return [] if y.shape[2:] == case.size else [f"{height}x{width} is translated to {y.shape[2]}x{y.shape[3]}"]


CHECKS: Mapping[str, Check] = {
    "any_number_of_workers": any_number_of_workers,
    "stopped_after_any_step": stopped_after_any_step,
    "resumed_by_other_workers": resumed_by_other_workers,
    "updates_change_their_player": updates_change_their_player,
    "checkpoints_without_pickle": checkpoints_without_pickle,
    "translation_is_a_function": translation_is_a_function,
    "odd_and_oblong_sizes": odd_and_oblong_sizes,
}


def _trainer(case: Case, precision: str) -> Trainer:
    """A trainer in this process that has taken two steps."""
    method = case.build()
    trainer = Trainer(method, settings(method, precision, STEPS), seed=SEED, comm=Comm.alone())
    for _ in range(2):
        trainer.step(batches(case, method, Comm.alone(), trainer.batches, trainer.training.batch_size))
    return trainer


def _inputs(case: Case, method: Method, rows: Sequence[int], target: str | None) -> tuple[Tensor, Tensor | None]:
    """What a translation to `target` starts from, and codes: None for a method without."""
    positions = torch.tensor(rows)
    x = _images(case, type(method).batch_type(case.config), positions, target).float()
    if not method.code_dim:
        return x, None
    return x, normal(sample_keys(key_of(SEED, "code"), positions), (method.code_dim,))


def _images(case: Case, kind: type[Batch], positions: Tensor, target: str | None) -> Tensor:
    """What a translation to `target` starts from; channels of several modalities side by side."""
    if kind is not Multimodal or target is None:
        return next(t for t in make_batch(kind, case.domains, positions).tensors() if t.is_floating_point())
    sources = case.domains.path(target)[0]
    alone = [make_batch(Images, Domains((domain,)), positions) for domain in sources]
    return torch.cat([batch.x for batch in alone if isinstance(batch, Images)], dim=1)


def compare(one: Trace, many: Trace, largest: float, who: str) -> list[str]:
    """Differences beyond the tolerance of the design: gradients 1e-10 of the player's largest, parameters 1e-9."""
    problems = []
    if [name for name, _ in one.gradients] != [name for name, _ in many.gradients]:
        return [f"{who}: other updates ran"]
    for number, ((name, a), (_, b)) in enumerate(zip(one.gradients, many.gradients, strict=True)):
        scale = max(float(g.abs().max()) for g in a.values())
        errors = {key: float((a[key] - b[key]).abs().max()) for key in a}
        worst = max(errors, key=lambda key: errors[key])
        error = errors[worst]
        if not error <= GRADIENT_TOLERANCE * scale:  # NaN is no agreement
            problems.append(
                f"{who}: update {number} ({name}): gradient of {worst} off by {error / scale:.2g} of the largest"
            )
    tolerance = PARAMETER_TOLERANCE * max(1.0, largest / 100)
    for key, tensor in one.tensors.items():
        error = float((tensor.double() - many.tensors[key].double()).abs().max()) if tensor.numel() else 0.0
        if not error <= tolerance * max(
            1.0, float(tensor.double().abs().max()) if key.startswith("optimizer.") else 1.0
        ):
            problems.append(f"{who}: {key} off by {error:.2g} after {STEPS} steps (tolerance {tolerance:.2g})")
    return problems[:5]
