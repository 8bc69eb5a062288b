"""A job's model in a worker: loaded once, ready to translate, or to sample."""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist import model
from i2idist.errors import SourceError
from i2idist.method import Method
from i2idist.model import labels_of, sample_in_parts
from i2idist.translate.job import Job, Options


class Forward:
    """Translates images as a job says; the same bits in every worker."""

    def __init__(self, job: Job) -> None:
        """Load the job's model and compute with the job's threads from now on.

        Raises:
            SourceError: the model isn't there, or no longer the one of the job.
        """
        self._options = job.options
        torch.set_num_threads(job.options.threads)
        if job.options.device == "cuda":
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self._translator = model.load(job.model.uri)
        if self._translator.card.weights_sha256 != job.model.card.weights_sha256:
            raise SourceError(f"The model at {job.model.uri} was replaced while it was used: start again.")
        self._translator.method.to(job.options.device)
        self._style = job.style

    @property
    def method(self) -> Method:
        """The loaded method."""
        return self._translator.method

    def __call__(self, images: Tensor, positions: Tensor, num_samples: int, seed: int) -> Tensor:
        """Translate images, each with the codes of its place in the split; or make images of codes alone.

        Args:
            images: (N, C, H, W) float in [-1, 1]; a generator looks at none.
            positions: (N,) int64.
            num_samples: codes for each image; 1 for a model without codes.
            seed: of the codes.

        Returns:
            (N, num_samples, C', H', W') float in [-1, 1], on the CPU.

        Raises:
            SizeError: the method can't process the size.
        """
        codes, options = self._translator.draw_codes(positions, num_samples, seed), self._options
        if self.method.generates:
            return samples_of(self.method, codes, positions, options).cpu()
        outputs = self._translator.translate(
            images.to(options.device),
            codes.to(options.device),
            target=options.target,
            style_from=self._style,
            batch_size=options.batch_size,
        )
        return outputs.cpu()


@torch.inference_mode()
def samples_of(method: Method, codes: Tensor, positions: Tensor, options: Options) -> Tensor:
    """What a generator makes at places in the stream of codes.

    Args:
        method: the generator.
        codes: (N, K, code_dim).
        positions: (N,) int64.
        options: target and batch size.

    Returns:
        (N, K, C, H, W) float in [-1, 1].
    """
    each = positions.repeat_interleave(codes.shape[1])
    made = sample_in_parts(method, codes.flatten(0, 1), labels_of(method, each, options.target), options.batch_size)
    return made.reshape(*codes.shape[:2], *made.shape[1:])
