"""Protocols as validation during training: the same code as an evaluation of the saved model, on the method as it is.

Chunks are dealt to the ranks and what they find is folded in order on every rank, so that any number of workers gives
the value that `i2idist evaluate --split val` gives of the model that is saved then. The samples of a generator are held
against all real images, as they are without `--split`.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from i2idist.errors import ConfigError, I2IError
from i2idist.evaluate.job import Evaluation, evaluation_of, evaluation_of_samples
from i2idist.evaluate.protocol import Choice
from i2idist.evaluate.protocols import choose
from i2idist.evaluate.run import Folding
from i2idist.evaluate.worker import Evaluator, Found
from i2idist.method import Domains, Method
from i2idist.model import FORMAT_VERSION, ModelCard, draw_codes
from i2idist.train.comm import Comm
from i2idist.train.saved import as_saved
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from i2idist.translate.forward import samples_of
from i2idist.translate.inputs import find_inputs
from i2idist.translate.job import Job, Model, Options, absolute

SPLIT = "val"


def choices_of(training: Training) -> list[Choice]:
    """The protocols that validation measures by, on at most as many inputs as it looks at.

    Raises:
        ConfigError: one that isn't known, a network that isn't, or a criterion that keeps the worst.
    """
    choices = [_limited(choose(text), training.validation_images) for text in training.validate_protocols]
    for protocol in (choice.protocol for choice in choices):
        wanted = "max" if protocol.better == "higher" else "min"
        if f"{training.best_metric}/".startswith(f"eval/{protocol.name}/") and training.best_mode != wanted:
            raise ConfigError(f"Of {protocol.name}, {protocol.better} is better: set train.best_mode={wanted}.")
    return choices


def _limited(choice: Choice, limit: int | None) -> Choice:
    inputs = choice.sampling.inputs
    if limit is None or (inputs is not None and inputs <= limit):
        return choice
    return dataclasses.replace(choice, sampling=dataclasses.replace(choice.sampling, inputs=limit))


def evaluation_in_training(
    training: Training, name: str, method: Method, domains: Domains, url: str, device: torch.device, cache: str
) -> Evaluation:
    """What every validation of a training evaluates. The model that it names is the method as it is then.

    Args:
        training: says which protocols.
        name: the method's.
        method: the method.
        domains: what it is trained on.
        url: the dataset's folder.
        device: what computes.
        cache: the folder for a classifier, which all workers reach.

    Raises:
        I2IError: as `make_evaluation`.
    """
    card = ModelCard(
        method=name,
        config={},
        domains=domains,
        format_version=FORMAT_VERSION,
        code_dim=method.code_dim,
        weights="",
        weights_sha256="",
    )
    model, choices = Model("", name, None, None, card), choices_of(training)
    options = Options(threads=torch.get_num_threads(), device="cuda" if device.type == "cuda" else "cpu")
    if method.generates:
        data = find_inputs(absolute(url), domains.a)
        return evaluation_of_samples(model, method, choices, options, data, cache=cache)
    inputs = find_inputs(absolute(url), domains.route(method.targets[0])[0], split=SPLIT)
    job = Job(model, inputs, dataclasses.replace(options, target=method.targets[0]), "", 0)
    return evaluation_of(job, choices, cache=cache)


class Measurer:
    """Measures a method in the midst of its training; every rank has one, and calls it alike."""

    def __init__(self, evaluation: Evaluation, method: Method, comm: Comm) -> None:
        """Look at the chunks that are this rank's."""
        self._evaluation, self._comm = evaluation, comm
        self._chunks = evaluation.chunks()
        self._worker = Evaluator(evaluation, _Forward(method, evaluation.job.options))

    def close(self) -> None:
        """Let go of files and threads."""
        self._worker.close()

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """The protocols' values, by `eval/NAME`.

        Raises:
            I2IError: what data or protocols raise on any rank; raised on all of them.
        """
        with as_saved(trainer):
            found, failure = self._look()
        everyone = self._comm.gather_objects((found, failure))
        failure = next((one for _, one in everyone if one), None)
        if failure:
            raise failure
        folding = Folding(self._evaluation, self._chunks)
        for part in (part for parts, _ in everyone for part in parts):
            folding.add(part)
        return {f"eval/{record.name}": record.estimate.value for record in folding.records()}

    def _look(self) -> tuple[list[Found], I2IError | None]:
        mine = self._chunks[self._comm.rank :: self._comm.world_size]
        try:
            return [self._worker(chunk, lambda far: None) for chunk in mine], None
        except I2IError as error:
            return [], error


class _Forward:
    """Translates with the method as it is, in the same batches as its saved model."""

    def __init__(self, method: Method, options: Options) -> None:
        self.method, self._options = method, options

    def __call__(self, images: Tensor, positions: Tensor, num_samples: int, seed: int) -> Tensor:
        parameter = next(self.method.parameters())
        codes = draw_codes(positions, num_samples, seed, self.method.code_dim)
        if self.method.generates:
            return samples_of(self.method, codes, positions, self._options).float().cpu()
        codes, target = codes.flatten(0, 1), self.method.targets[0]
        images, codes = images.to(parameter), codes.to(parameter)
        outputs = [
            self.method.translate(
                images[pairs // num_samples],
                codes[pairs] if self.method.code_dim else None,
                target=target,
            )
            for pairs in torch.split(torch.arange(len(codes)), self._options.batch_size)
        ]
        together = torch.cat(outputs).float().cpu()
        return together.reshape(len(images), num_samples, *together.shape[1:])
