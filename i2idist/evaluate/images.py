"""Real images where a generator's samples stand: how far one dataset is from another (Wang's thesis, Table A.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from i2idist.data.generated import is_generated, resolve
from i2idist.data.manifest import is_packed, load_manifest
from i2idist.errors import ConfigError
from i2idist.evaluate import needs
from i2idist.evaluate.job import Evaluation, check_asked
from i2idist.evaluate.places import places_by_label, total
from i2idist.evaluate.protocol import Choice
from i2idist.method import Domain, Domains, Method
from i2idist.metrics import networks
from i2idist.model import FORMAT_VERSION, ModelCard
from i2idist.translate.inputs import Inputs, find_inputs
from i2idist.translate.job import Job, Model, Options, absolute

_METHOD = "images"


def is_dataset(uri: str) -> bool:
    """Whether a URI in a model's place names a packed or generated dataset."""
    if is_generated(uri):
        return True
    return not uri.startswith(("models:/", "runs:/")) and is_packed(uri)


def evaluation_of_images(
    url: str,
    dataset_url: str,
    choices: Sequence[Choice],
    options: Options,
    *,
    split: str | None = None,
    domain: str | None = None,
) -> Evaluation:
    """An evaluation of a dataset's images, in all of its splits, as if a generator had made them.

    Args:
        url: the dataset.
        dataset_url: the real images that it is held against, as `make_evaluation` takes a generator's.
        choices: the protocols, which look at so many images of `url`, drawn by their seeds, or at all.
        options: the size of both, `trained` being that of `dataset_url`; the target is a label of its images.
        split: of `dataset_url`; None: all.
        domain: likewise; None: its only one. Of `url` the only one, or the one of that name.

    Raises:
        ConfigError: a protocol that looks at more than outputs and real images, or data that don't fit each other.
        I2IError: as `make_evaluation`.
    """
    check_asked(choices, options)
    ours, theirs = absolute(url), absolute(dataset_url)
    shown = _domain(theirs if is_dataset(theirs) else ours, domain, options)
    data, images = find_inputs(theirs, shown, split=split, domain=domain), find_inputs(ours, shown)
    for choice in choices:
        needs.check_of_images(choice, data, options.target)
        if choice.network:
            networks.network(choice.network)
    among = places_by_label(data, options.target, have=True) if options.target else None
    for choice in choices:
        needs.check_counts(choice, total(images), total(data, among))
    own = dataclasses.replace(options, device=options.resolved_device())
    job = Job(_standing_in(images, shown), images, own, "", 0)
    return Evaluation(job, data, None, tuple(choices), real_among=among, of_images=True)


def _domain(url: str, name: str | None, options: Options) -> Domain:
    """What images of both datasets are looked at as."""
    manifest = load_manifest(resolve(url))
    names = [domain.name for domain in manifest.domains]
    if name is None and len(names) > 1:
        raise ConfigError(f"{url} has the domains {', '.join(names)}: name one by --domain.")
    found = manifest.domain(name or names[0])
    size = options.size if isinstance(options.size, tuple) else found.size
    if size is None:
        raise ConfigError(f"Images of '{found.name}' in {url} differ in size: set --size, which both datasets get.")
    return Domain(found.name, found.channels, *size)


def _standing_in(images: Inputs, shown: Domain) -> Model:
    """What records name in a model's place: the dataset, by its digest."""
    card = ModelCard(
        method=_METHOD,
        config={},
        domains=Domains((shown,)),
        format_version=FORMAT_VERSION,
        code_dim=0,
        weights="",
        weights_sha256=images.digest,
    )
    return Model(images.url, images.name, None, None, card)


class AsTheyAre:
    """Gives images back in a model's place; see `worker.Translate`."""

    def __init__(self, job: Job) -> None:
        """Compute with the job's threads from now on."""
        torch.set_num_threads(job.options.threads)
        self.method = Method()

    def __call__(self, images: Tensor, positions: Tensor, num_samples: int, seed: int) -> Tensor:
        """(N, C, H, W) -> (N, 1, C, H, W) on the CPU."""
        return images[:, None].cpu()
