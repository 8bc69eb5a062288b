"""One training step, exactly the same on any number of workers; and the state that resumes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, share
from i2idist.errors import CheckpointError, ConfigError, NonFiniteError
from i2idist.method import Backward, Method, Player, Stage, Step, Update
from i2idist.nn.norm import CrossReplica
from i2idist.train.checkpoint import State, copy_into
from i2idist.train.comm import Comm
from i2idist.train.ema import Ema
from i2idist.train.precision import forward_precision, memory_format, parameter_dtype, prepare
from i2idist.train.settings import Training

Observer = Callable[[str, Mapping[str, Tensor]], None]
"""Called with an update's name and its player's global gradients, by parameter, just before the optimizer steps."""


class Trainer:
    """Trains one method on this worker's part of each batch, in step with the other workers.

    Attributes:
        method: the method, on its device.
        images: samples drawn so far by all workers together.
        batches: global batches drawn so far; batch number `batches` comes next.
        steps: training steps taken.
        terms: the latest step's terms, by `update/term`: this worker's contribution to the global value. Of an update
            that is repeated, the last one's.
    """

    def __init__(
        self,
        method: Method,
        training: Training,
        *,
        seed: int,
        comm: Comm,
        device: torch.device | str = "cpu",
        observer: Observer | None = None,
    ) -> None:
        """Prepare the method, make every worker's parameters rank 0's, and set up optimizers and averages."""
        self.method = method
        self.training = training
        self.images = self.batches = self.steps = 0
        self.terms: dict[str, Tensor] = {}
        self._seed, self._comm, self._device, self._observer = seed, comm, torch.device(device), observer
        prepare(method, training, self._device)
        method.train()
        _refuse_hidden_state(method)
        for module in method.modules():
            if isinstance(module, CrossReplica):
                module.sum, module.world_size = comm.sum, comm.world_size
        comm.broadcast(list(method.state_dict(keep_vars=True).values()))
        self._players = {player.name: player for player in method.players()}
        self._parameters = {name: _parameters(method, p.networks) for name, p in self._players.items()}
        self._optimizers = {name: _adam(p, self._parameters[name]) for name, p in self._players.items()}
        self._emas = self._make_emas()
        self._stages = method.stages()
        if training.compile:
            for _, network in method.networks():
                _compile(network)

    @property
    def stage(self) -> Stage:
        """The stage of training that the next step belongs to."""
        progress = self.images / self.training.total_images
        return next((stage for stage in self._stages if progress < stage.until), self._stages[-1])

    def step(self, batches: Iterator[Batch]) -> None:
        """Take one training step: every update of the stage that is due, drawing batches as they are needed.

        Raises:
            NonFiniteError: a gradient isn't finite on some rank; raised on all ranks, before any parameter takes it.
        """
        stage = self.stage
        self.terms = {}
        steps = self._draw(batches, stage)
        begun = self.images
        seen: Counter[str] = Counter()
        for update in stage.updates:
            seen[update.player] += 1
            if self.steps % update.every:
                continue
            name = update.player if seen[update.player] == 1 else f"{update.player}_{seen[update.player]}"
            for repeat in range(update.repeat):
                if repeat:
                    steps = self._draw(batches, stage)
                self._update(update, name, stage, steps)
        self.steps += 1
        for ema in self._emas.values():
            ema.update(self.images - begun + self.training.batch_size)

    def logged_terms(self) -> dict[str, float]:
        """The latest step's terms over the global batch, by `update/term`."""
        names = sorted(self.terms)
        if not names:
            return {}
        values = self._comm.total(torch.stack([self.terms[n].double() for n in names]))
        return dict(zip(names, values.tolist(), strict=True))

    def learning_rates(self) -> dict[str, float]:
        """The present learning rate of each player."""
        return {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in self._optimizers.items()}

    def averaged(self) -> dict[str, Ema]:
        """The moving averages that are kept, by player."""
        return self._emas

    def restart_averages(self) -> None:
        """Let the moving averages begin at the present parameters."""
        self._emas = self._make_emas()

    def state(self) -> State:
        """All that changes during training, as live tensors and counters."""
        counters = {"images": self.images, "batches": self.batches, "steps": self.steps}
        return State(self._tensors(), counters)

    def restore(self, state: State, where: str) -> None:
        """Continue from `state`, read on rank 0 (the other ranks may pass anything) and broadcast from there.

        Raises:
            CheckpointError: the state doesn't fit this method; raised on all ranks, and nothing is changed.
        """
        live = self._tensors()
        failure = None
        if self._comm.rank == 0:
            try:
                copy_into(live, state.tensors, where)
            except CheckpointError as error:
                failure = str(error)
        failure = self._comm.broadcast_object(failure)
        if failure:
            raise CheckpointError(failure)
        self._comm.broadcast([live[name] for name in sorted(live)])
        counters = self._comm.broadcast_object(dict(state.rest))
        self.images, self.batches, self.steps = counters["images"], counters["batches"], counters["steps"]

    def same_everywhere(self) -> bool:
        """Whether all workers hold the same bits in all that changes."""
        live = self._tensors()
        return self._comm.same([live[name] for name in sorted(live)])

    def _make_emas(self) -> dict[str, Ema]:
        half_life = self.training.ema_half_life_images
        if half_life is None:
            return {}
        return {
            name: Ema({n: getattr(self.method, n) for n in player.networks}, half_life)
            for name, player in self._players.items()
            if player.ema
        }

    def _draw(self, batches: Iterator[Batch], stage: Stage) -> list[Step]:
        """The next batch on the device, as one `Step` for each micro-batch."""
        batch = next(batches).to(self._device, parameter_dtype(self.training), memory_format(self.training))
        weights = {**self.method.weights(), **stage.weights}
        steps = [
            Step(
                part,
                images=self.images,
                seed=self._seed,
                comm=self._comm,
                weights=weights,
                global_batch=self.training.batch_size,
            )
            for part in self._micro_batches(batch)
        ]
        self.batches += 1
        self.images += self.training.batch_size
        return steps

    def _micro_batches(self, batch: Batch) -> list[Batch]:
        """Runs of whole groups, as many on every worker: each run's collectives need all of them."""
        group = self.method.group_size
        smallest_share = self.training.batch_size // group // self._comm.world_size
        count = min(self.training.accumulate, smallest_share)
        parts = [share(len(batch), group, i, count) for i in range(count)]
        return [batch[slice(part.start, part.stop)] for part in parts]

    def _update(self, update: Update, name: str, stage: Stage, steps: list[Step]) -> None:
        player = self._players[update.player]
        optimizer = self._optimizers[update.player]
        backwards = self._backwards(update, tuple(n for n in player.networks if n not in stage.frozen))
        parameters = _parameters(self.method, tuple({n: None for b in backwards for n in b.networks}))
        for parameter in self._parameters[update.player].values():
            parameter.grad = None
        self.terms = {key: value for key, value in self.terms.items() if not key.startswith(f"{name}/")}
        for step in steps:
            step.begin(name)
            for backward in backwards:
                self._backward(backward, name, step, len(steps))
        gradients = {}
        for key, parameter in parameters.items():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients[key] = parameter.grad
        self._refuse_non_finite(self._comm.reduce_gradients(list(gradients.values())), name)
        if player.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), player.optimizer.clip_norm)
        if self._observer:
            self._observer(name, gradients)
        factor = player.schedule.factor(self.images - self.training.batch_size, self.training.total_images)
        for group in optimizer.param_groups:
            group["lr"] = player.optimizer.lr * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _backwards(self, update: Update, trained: tuple[str, ...]) -> tuple[Backward, ...]:
        if callable(update.backward):
            return (Backward(update.backward, trained),)
        return tuple(Backward(b.terms, tuple(n for n in b.networks if n in trained)) for b in update.backward)

    def _backward(self, backward: Backward, name: str, step: Step, micro_batches: int) -> None:
        """Add the gradient of this worker's contribution to the global loss.

        A vector contributes its sum over the global count, which is its own length scaled up from local to global
        samples; a scalar is global already, and each worker answers for an equal part of it.
        """
        with forward_precision(self.training, self._device):
            terms = backward.terms(step)
        loss: Tensor | None = None
        for term, value in terms.items():
            value = value if value.dtype == torch.float64 else value.float()
            if value.dim():
                contribution = value.sum() * (len(step.batch) / (value.numel() * self.training.batch_size))
            else:
                contribution = value / (micro_batches * self._comm.world_size)
            key = f"{name}/{term}"
            self.terms[key] = self.terms.get(key, torch.zeros_like(contribution.detach())) + contribution.detach()
            weighted = contribution * step.weights.get(term, 1.0)
            loss = weighted if loss is None else loss + weighted
        inputs = list(_parameters(self.method, backward.networks).values())
        if loss is not None and loss.requires_grad and inputs:
            torch.autograd.backward(loss, inputs=inputs)

    def _refuse_non_finite(self, ranks: list[int], update: str) -> None:
        if not ranks:
            return
        mine = [n for n, value in self.terms.items() if n.startswith(f"{update}/") and not bool(value.isfinite())]
        names = sorted({n for names in self._comm.gather_objects(mine) for n in names})
        what = f"terms {', '.join(names)} are" if names else f"every term of {update} is finite, but its gradient is"
        raise NonFiniteError(
            f"Training stopped: {what} not finite at {self.images} images (step {self.steps}), "
            f"on ranks {', '.join(map(str, ranks))}. Parameters are as before this update. "
            "Lower the learning rate or the weight of that term, or use train.precision=float32."
        )

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"method.{key}": t for key, t in self.method.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            for key, parameter in self._parameters[name].items():
                for slot, tensor in optimizer.state[parameter].items():
                    tensors[f"optimizer.{name}.{key}.{slot}"] = tensor
        for name, ema in self._emas.items():
            for key, tensor in ema.shadow.items():
                tensors[f"ema.{name}.{key}"] = tensor
        return tensors


def _parameters(method: Method, networks: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """The networks' parameters by qualified name, each once even where modules share it."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for network in networks:
        for key, parameter in getattr(method, network).named_parameters():
            found.setdefault(id(parameter), (f"{network}.{key}", parameter))
    return dict(found.values())


def _adam(player: Player, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Adam:
    """Adam with its moments made at once, so that a checkpoint can be copied into them."""
    settings = player.optimizer
    optimizer = torch.optim.Adam(
        parameters.values(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def _compile(network: nn.Module) -> None:
    """Compile a network; of one that is never called as a whole, its parts."""
    for part in [network] if type(network).forward is not nn.Module.forward else network.children():
        part.compile()


def _refuse_hidden_state(method: Method) -> None:
    """Whatever changes during training must be in a checkpoint, and a checkpoint holds tensors."""
    others = sorted(name for name, value in method.state_dict().items() if not isinstance(value, Tensor))
    if others:
        raise ConfigError(
            f"{type(method).__name__} keeps {', '.join(others)} in its state, which isn't a tensor: "
            "keep state in buffers, so that checkpoints need no pickle."
        )
