"""A translation job: what decides every byte of its output, and the digest that names it.

Equal digests give equal bytes on the same kind of processor, however many workers there are and however often they
are killed; so a job that is started again finds by its digest what is done.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import PIL
import torch
from PIL import features
from torch import Tensor

from i2idist import model, storage
from i2idist.data.generated import is_generated
from i2idist.errors import ConfigError, DataError
from i2idist.method import Domain
from i2idist.model import PIPE, ModelCard, Translator
from i2idist.translate.inputs import Inputs, find_inputs, samples
from i2idist.translate.style import Style, read_style

FORMAT = 1
"""Raised whenever the same job would give other bytes."""

JOB_FILE, ERRORS_FILE, SUCCESS_FILE = "job.json", "errors.jsonl", "_SUCCESS"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose that changes the output.

    Attributes:
        num_samples: codes for each image.
        seed: of the codes, which are keyed by (seed, sample, place in the split).
        target: the domain or label to translate to, one of the model's; None: its first. Of a generator, the label of
            all samples; None: all labels in turn.
        style_from: an image of the target domain, whose style all outputs take: a file's URL, once resolved its
            content. It is resized as the images are; for methods that can.
        size: (height, width) that images are resized to; `trained`: the model's; `stored`: each keeps its own.
        batch_size: images, and outputs, that are computed at once.
        threads: threads of each worker. One by default: then neither cores nor workers change the bits.
        device: `auto` takes CUDA where this process has it.
    """

    num_samples: int = 1
    seed: int = 0
    target: str | None = None
    style_from: str | Style | None = None
    size: tuple[int, int] | Literal["trained", "stored"] = "trained"
    batch_size: int = 16
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a number out of range, or an unknown word.
        """
        for name in ("num_samples", "batch_size", "threads"):
            if vars(self)[name] < 1:
                raise ConfigError(f"{name} is {vars(self)[name]}: it must be at least 1.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device is {self.device!r}: it is 'auto', 'cpu' or 'cuda'.")
        if isinstance(self.size, tuple) and min(self.size) < 1:
            raise ConfigError(f"size is {self.size}: heights and widths are at least 1.")
        if self.style_from and self.num_samples > 1:
            raise ConfigError(
                f"num_samples is {self.num_samples}, but with style_from all outputs for an input would be equal. Use "
                "num_samples=1."
            )

    def resolved(self, translator: Translator) -> Options:
        """A copy in which device, target and style stand for what they mean here, and with this model.

        Raises:
            ConfigError: a style for a model that takes none, or no file of that name.
            StorageError: storage can't be reached.
        """
        usual = None if translator.method.generates else translator.targets[0]
        style = self.style_from
        if style and not translator.takes_style:
            raise ConfigError(f"{translator.card.method} takes no style from an image: leave style_from out.")
        if isinstance(style, str):
            style = read_style(absolute(style))
        return dataclasses.replace(
            self, device=self.resolved_device(), target=self.target or usual, style_from=style or None
        )

    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device that `auto` stands for here."""
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Model:
    """A model, pinned.

    Attributes:
        uri: what a worker loads: a folder's URL, or `models:/NAME/VERSION`.
        name: the registered name; for a folder, its last part.
        version: the registered version, if it is one.
        run_id: of the MLflow run that made it, if known.
        card: what its `model.json` says.
    """

    uri: str
    name: str
    version: str | None
    run_id: str | None
    card: ModelCard

    @property
    def label(self) -> str:
        """Name and version, as part of a file name."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-")[:40] or "model"
        return f"{name}-v{self.version}" if self.version else name


@dataclass(frozen=True)
class Job:
    """A job, whole: what workers need, and what names it.

    Attributes:
        model: the model.
        inputs: what is translated.
        options: device, target and style resolved.
        out: the folder that job folders go into.
        max_errors: bad inputs that are put up with; no part of the digest.
    """

    model: Model
    inputs: Inputs
    options: Options
    out: str
    max_errors: int

    @property
    def source(self) -> Domain:
        """The domain that is translated from; of several that are fused, their images side by side."""
        return self.model.card.domains.route(self.options.target)[0]

    @property
    def sources(self) -> tuple[Domain, ...]:
        """The domains that are translated from."""
        return self.model.card.domains.sources(self.options.target)

    @property
    def target(self) -> Domain:
        """The domain that is translated to."""
        return self.model.card.domains.route(self.options.target)[1]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that images are resized to; None: each keeps its own, or there are none."""
        if self.options.size == "stored" or self.inputs.are_codes:
            return None
        return (self.source.height, self.source.width) if self.options.size == "trained" else self.options.size

    @property
    def style(self) -> Tensor | None:
        """The image whose style all outputs take, (C, H, W) float in [-1, 1].

        Raises:
            SampleError: the file is no such image.
        """
        style = self.options.style_from
        if style is None:
            return None
        assert isinstance(style, Style), "options are resolved"
        own = self.options.size == "trained"
        return style.image(self.target, (self.target.height, self.target.width) if own else self.size)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides the output, as 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self._decisive(), sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """The job folder's name."""
        return f"{self.model.label}-{self.digest[:12]}"

    @property
    def url(self) -> str:
        """The job's folder."""
        return storage.join(self.out, self.name)

    def file(self, name: str) -> str:
        """The URL of a file of the job."""
        return storage.join(self.url, name)

    def for_workers(self) -> Job:
        """A copy without the work items; it has the digest of the whole."""
        copy = dataclasses.replace(self, inputs=self.inputs.without_items())
        vars(copy)["digest"] = self.digest
        return copy

    def describe(self) -> dict[str, Any]:
        """What `job.json` says: the digest's ingredients, and where they came from."""
        found, style = self.model, self.options.style_from
        lineage = {"uri": found.uri, "name": found.name, "version": found.version, "run_id": found.run_id}
        return {
            "digest": self.digest,
            **self._decisive(),
            "model": lineage | {"lineage": dict(found.card.lineage)},
            "dataset_url": self.inputs.url,
            **({"style_url": style.url} if isinstance(style, Style) else {}),
            "items": len(self.inputs.items),
        }

    def _decisive(self) -> dict[str, Any]:
        card = {key: value for key, value in dataclasses.asdict(self.model.card).items() if key != "lineage"}
        return {
            "format": FORMAT,
            "card": card,
            "dataset_digest": self.inputs.digest,
            "domain": self.inputs.domain,
            "splits": self.inputs.splits,
            "options": self._decisive_options(),
            "versions": _versions(),
        }

    def _decisive_options(self) -> dict[str, Any]:
        """A style counts as its file's content; without one the digest is what it was before there were styles."""
        options, style = dict(vars(self.options)), self.options.style_from
        del options["style_from"]
        return options | {
            "size": list(self.size) if self.size else "stored",
            **({"style_sha256": style.sha256} if isinstance(style, Style) else {}),
        }


def _versions() -> dict[str, str | None]:
    """Of what computes, decodes and encodes."""
    codecs = {name: features.version(name) for name in ("zlib", "zlib_ng", "jpg", "libjpeg_turbo", "webp", "libtiff")}
    return {"torch": torch.__version__, "pillow": PIL.__version__, **codecs}


def make_job(
    model_uri: str,
    dataset_url: str,
    out_url: str,
    options: Options,
    *,
    split: str | None,
    domain: str | None,
    max_errors: int,
) -> Job:
    """Resolve the model's alias to a version, look at the data, and try one forward pass.

    Raises:
        ConfigError: model, data and options don't fit each other.
        DataError: there is nothing to translate.
        SampleError: the style's file is no image.
        StorageError: storage can't be reached.
    """
    if max_errors < 0:
        raise ConfigError(f"max_errors is {max_errors}: it must be 0 or more.")
    found, translator = pin_model(model_uri)
    options = options.resolved(translator)
    source, _ = found.card.domains.route(options.target)
    inputs = find_inputs(absolute(dataset_url), source, split=split, domain=domain)
    job = Job(found, inputs, options, absolute(out_url), max_errors)
    if not inputs.items:
        raise DataError(f"There are no images to translate at {inputs.url}.")
    _try_out(translator, job)
    return job


def make_sample_job(model_uri: str, num: int, out_url: str, options: Options) -> Job:
    """A job without images: so many samples of a generator.

    Raises:
        ConfigError: the model translates, or model and options don't fit each other.
        SourceError: there is no such model.
        StorageError: storage can't be reached.
    """
    found, translator = pin_model(model_uri)
    options = options.resolved(translator)
    translator.sample(1, seed=options.seed, target=options.target)
    return Job(found, samples(num, translator.targets), options, absolute(out_url), 0)


def _try_out(translator: Translator, job: Job) -> None:
    """Let what can't work be refused before anything is written."""
    height, width = job.size or (job.source.height, job.source.width)
    blank = torch.zeros(1, job.source.channels, height, width)
    codes = translator.draw_codes(torch.arange(1), job.options.num_samples, job.options.seed)
    translator.translate(blank, codes[:, :1], target=job.options.target, style_from=job.style)


def pin_model(uri: str) -> tuple[Model, Translator]:
    """The model that a URI names now: an alias is resolved to a version here, once.

    Raises:
        SourceError: there is no such model.
        StorageError: storage can't be reached.
    """
    if PIPE in uri:
        return _pin_chain(uri.split(PIPE))
    if uri.startswith(("models:/", "runs:/")):
        from i2idist.tracking.registry import resolve

        found = resolve(uri)
        translator = model.load(found.folder_url)
        name = found.name or found.uri.rstrip("/").rsplit("/", 1)[-1]
        return Model(found.uri, name, found.version, found.run_id, translator.card), translator
    url = absolute(uri)
    translator = model.load(url)
    return Model(url, url.rsplit("/", 1)[-1], None, _run_id(translator.card.lineage), translator.card), translator


def _pin_chain(uris: Sequence[str]) -> tuple[Model, Translator]:
    from i2idist.chained import chained

    found = [pin_model(uri) for uri in uris]
    translator = chained([each for _, each in found])
    names = [f"{one.name}-v{one.version}" if one.version else one.name for one, _ in found]
    return Model(PIPE.join(one.uri for one, _ in found), "-then-".join(names), None, None, translator.card), translator


def _run_id(lineage: Mapping[str, Any]) -> str | None:
    found = lineage.get("mlflow_run_id")
    return None if found is None else str(found)


def absolute(url: str) -> str:
    """A URL that means the same to workers elsewhere on this machine."""
    if is_generated(url):
        return url
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else url.rstrip("/")
