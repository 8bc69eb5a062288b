"""ID distance: how far a face network sees a translated face from the face it was made of (UDIT, SDIT section 6.4).

Reading, since neither says which distance: the Euclidean one between feature vectors of length 1, so that it lies in
[0, 2] for every face network; the network belongs to the metric's name.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.errors import ConfigError
from i2idist.metrics import checks


def id_distance(inputs: Tensor, outputs: Tensor) -> Tensor:
    """The mean over an input's outputs of the distance of their features from the input's.

    Args:
        inputs: (N, F) features of the inputs.
        outputs: (N, F) or (N, K, F) features of their translations.

    Returns:
        (N,) float64 in [0, 2].

    Raises:
        ConfigError: shapes that don't belong together, numbers that aren't finite, or features that are all zero.
    """
    inputs = checks.matrix(inputs.detach(), "Features of inputs")
    outputs = checks.finite(checks.samples_of(outputs.detach(), len(inputs), 1, "Features"), "Features").double()
    if outputs.shape[2] != inputs.shape[1]:
        raise ConfigError(f"Features of width {outputs.shape[2]} and {inputs.shape[1]}: use one network.")
    if not (inputs.any(1).all() and outputs.any(2).all()):
        raise ConfigError("ID distance: features that are all zero have no direction.")
    apart = functional.normalize(outputs, dim=2) - functional.normalize(inputs, dim=1)[:, None]
    distances: Tensor = torch.linalg.vector_norm(apart, dim=2)
    return distances.mean(1)
