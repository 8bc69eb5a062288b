"""A trained translator or generator, saved and loaded: a folder with weights in safetensors and `model.json`.

```
model.json                   what it is: format version, method, config, domains, code length, weights and their digest
weights-<digest>.safetensors the networks that translation needs, averaged parameters where training kept them
```

`model.json` is written last and names the weights by their digest, so that a folder holds a whole model or none.
Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic
import safetensors.torch
import torch
from torch import Tensor

from i2idist import storage
from i2idist.errors import ConfigError, SourceError, nearest
from i2idist.method import Described, Domains, Method
from i2idist.methods import load_method
from i2idist.randomness import key_of, normal, sample_keys
from i2idist.tensors import WeightsName, parse_tensors

FORMAT_VERSION = 1
FILE_NAME = "model.json"
PIPE = "|"
"""Between models that are chained."""


@dataclass(frozen=True, kw_only=True)
class ModelCard(Described):
    """What `model.json` says, beside what a model is.

    Attributes:
        format_version: of the folder.
        code_dim: length of the latent code; 0 where outputs depend on the input alone.
        weights: the weight file's name.
        weights_sha256: its digest.
        lineage: where it came from: run, checkpoint, dataset digest; as the saver gave it.
    """

    format_version: int
    code_dim: int
    weights: WeightsName
    weights_sha256: str
    lineage: dict[str, Any] = field(default_factory=dict)


class Translator:
    """A loaded model.

    Attributes:
        card: what it is.
        method: the method in evaluation mode; only the networks that translation needs hold trained weights.
    """

    def __init__(self, card: ModelCard, method: Method) -> None:
        """Wrap a method whose translation networks are trained."""
        self.card = card
        self.method = method.eval().requires_grad_(False)

    @torch.inference_mode()
    def translate(
        self,
        images: Tensor,
        codes: Tensor | None = None,
        *,
        num_samples: int = 1,
        seed: int = 0,
        first_position: int = 0,
        target: str | None = None,
        style_from: Tensor | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Translate images, each with one code or several. Every output is a function of its (input, code) alone.

        Args:
            images: (N, C, H, W) float in [-1, 1].
            codes: (K, code_dim), the same for every image; or (N, K, code_dim). By default drawn, see `draw_codes`.
            num_samples: K, where codes are drawn.
            seed: of the drawn codes.
            first_position: the first image's place in the stream of images that codes are keyed by.
            target: the domain or label to translate to, one of `targets`; None: the first.
            style_from: (C', H', W') float in [-1, 1], an image whose style all outputs take; for methods that can.
            batch_size: outputs computed at once.

        Returns:
            (N, K, C', H, W) float in [-1, 1]; K is 1 for a method without codes.

        Raises:
            ConfigError: channels, codes or a target that don't fit the model; a style for a method that takes none.
            SizeError: the method can't process H x W.
        """
        if self.method.generates:
            raise ConfigError(f"{self.card.method} makes images of codes alone, it takes none: use sample.")
        self._check_images(images, target)
        options = {"target": target or self.targets[0], **self._style(style_from)}
        if codes is None:
            positions = torch.arange(first_position, first_position + len(images))
            codes = self.draw_codes(positions, num_samples, seed)
        codes = self._codes_of_each(codes, len(images))
        samples = codes.shape[1]
        outputs = [
            self.method.translate(images[pairs // samples], self._code(codes.flatten(0, 1)[pairs]), **options)
            for pairs in torch.split(torch.arange(len(images) * samples), batch_size)
        ]
        together = torch.cat(outputs)
        return together.reshape(len(images), samples, *together.shape[1:]).clone()

    @torch.inference_mode()
    def sample(
        self,
        num: int,
        codes: Tensor | None = None,
        *,
        seed: int = 0,
        first_position: int = 0,
        target: str | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Make images of codes alone, by a model that generates. Each is a function of its (code, label) alone.

        Args:
            num: how many.
            codes: (num, code_dim); by default drawn, see `draw_codes`.
            seed: of the drawn codes.
            first_position: the first image's place in the stream of images that codes and labels are keyed by.
            target: the label of all of them, one of `targets`; None: the labels in turn, where there are some.
            batch_size: images computed at once.

        Returns:
            (num, C, H, W) float in [-1, 1].

        Raises:
            ConfigError: the model translates; codes or a target that don't fit it.
        """
        if not self.method.generates:
            raise ConfigError(f"{self.card.method} translates images, it makes none of its own: use translate.")
        positions = torch.arange(first_position, first_position + num)
        labels = labels_of(self.method, positions, target)
        if codes is None:
            codes = self.draw_codes(positions, 1, seed)[:, 0]
        elif codes.shape != (num, self.card.code_dim):
            raise ConfigError(f"Codes of {num} images are ({num}, {self.card.code_dim}), not {tuple(codes.shape)}.")
        return sample_in_parts(self.method, codes, labels, batch_size)

    def draw_codes(self, positions: Tensor, num_samples: int, seed: int) -> Tensor:
        """Standard normal codes keyed by (seed, sample, position): more samples only add codes.

        Args:
            positions: (N,) int64.
            num_samples: K, at least 1; 1 for a method without codes.
            seed: of the draw.

        Returns:
            (N, K, code_dim) float32.

        Raises:
            ConfigError: `num_samples` is below 1, or above 1 for a method without codes.
        """
        if num_samples > 1 and not self.card.code_dim:
            raise ConfigError(
                f"num_samples is {num_samples}, but {self.card.method} takes no code: all outputs for an input would "
                "be equal. Use num_samples=1."
            )
        return draw_codes(positions, num_samples, seed, self.card.code_dim)

    @property
    def targets(self) -> tuple[str, ...]:
        """What images can be translated to, the usual one first: domains, or labels; labels of what is generated."""
        return self.method.targets

    @property
    def takes_style(self) -> bool:
        """Whether `translate` takes an image's style, by the option `style_from`."""
        return "style_from" in inspect.signature(self.method.translate).parameters

    def _style(self, style_from: Tensor | None) -> dict[str, Any]:
        if style_from is not None and not self.takes_style:
            raise ConfigError(f"{self.card.method} takes no style from an image: leave style_from out.")
        return {} if style_from is None else {"style_from": style_from}

    def _check_images(self, images: Tensor, target: str | None) -> None:
        domain, _ = self.card.domains.route(target)
        if images.dim() != 4 or images.shape[1] != domain.channels or not len(images):
            raise ConfigError(
                f"This model takes images (N, {domain.channels}, H, W) of domain '{domain.name}', N at least 1, "
                f"not {tuple(images.shape)}."
            )

    def _codes_of_each(self, codes: Tensor, count: int) -> Tensor:
        """(K, Z) or (N, K, Z) -> (N, K, Z)."""
        each = codes.expand(count, -1, -1) if codes.dim() == 2 else codes
        if each.dim() != 3 or each.shape[::2] != (count, self.card.code_dim) or not each.shape[1]:
            raise ConfigError(
                f"Codes for {count} images are (K, {self.card.code_dim}) or ({count}, K, {self.card.code_dim}), "
                f"not {tuple(codes.shape)}."
            )
        return each

    def _code(self, codes: Tensor) -> Tensor | None:
        return codes if self.card.code_dim else None


def draw_codes(positions: Tensor, num_samples: int, seed: int, code_dim: int) -> Tensor:
    """The codes that a translator draws, see `Translator.draw_codes`: (N, num_samples, code_dim) float32.

    Raises:
        ConfigError: `num_samples` is below 1.
    """
    if num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples}: it must be at least 1.")
    keys = [sample_keys(key_of(seed, "translate", k), positions) for k in range(num_samples)]
    return torch.stack([normal(key, (code_dim,)) for key in keys], dim=1)


def labels_of(method: Method, positions: Tensor, target: str | None) -> Tensor | None:
    """The labels of generated images: `target`, or all in turn by position; None of a method without labels.

    Args:
        method: one that generates.
        positions: (N,) int64.
        target: one of its targets, or None.

    Returns:
        (N,) int64, places in the method's `targets`.

    Raises:
        ConfigError: no such target.
    """
    if target is not None and target not in method.targets:
        known = f"makes images of {', '.join(method.targets)}" if method.targets else "has no labels to choose from"
        raise ConfigError(f"target is '{target}', but this model {known}.{nearest(target, method.targets)}")
    if not method.targets:
        return None
    return (
        positions % len(method.targets) if target is None else torch.full_like(positions, method.targets.index(target))
    )


def sample_in_parts(method: Method, codes: Tensor, labels: Tensor | None, batch_size: int) -> Tensor:
    """What a method makes of codes (N, code_dim) and labels (N,) or None, so many at once: (N, C, H, W)."""
    parameter = next(method.parameters())
    parts = [
        method.sample(codes[rows].to(parameter), None if labels is None else labels[rows].to(parameter.device))
        for rows in torch.split(torch.arange(len(codes)), batch_size)
    ]
    return torch.cat(parts).clone()


def weights_of(method: Method, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that translation needs from a checkpoint's tensors: averaged ones where training kept them.

    Args:
        method: the method that was trained; says which networks translate and whose they are.
        checkpoint: tensors by the names that the trainer gives them.

    Returns:
        Tensors by their names in the method.

    Raises:
        SourceError: a tensor is missing.
    """
    found = {}
    for key in _translator_keys(method):
        network = key.partition(".")[0]
        averaged = [f"ema.{p.name}.{key}" for p in method.players() if network in p.networks]
        name = next((n for n in (*averaged, f"method.{key}") if n in checkpoint), None)
        if name is None:
            raise SourceError(f"The checkpoint has no tensor method.{key}: it is of another method or config.")
        found[key] = checkpoint[name]
    return found


def _translator_keys(method: Method) -> Iterator[str]:
    for network in method.translator_networks():
        yield from (f"{network}.{key}" for key in method.get_submodule(network).state_dict())


def save(
    url: str,
    method: Method,
    *,
    method_name: str,
    domains: Domains,
    weights: Mapping[str, Tensor] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Save a translator, replacing one that is there.

    Args:
        url: the folder, at any storage URL.
        method: the trained method.
        method_name: its name in `METHODS`, or `package.module:Class`.
        domains: what it was trained on.
        weights: the translation networks' weights; by default the method's own, see `weights_of`.
        lineage: where the weights came from; JSON-able.

    Raises:
        StorageError: storage refuses.
    """
    own = method.state_dict()
    chosen = {key: (weights or own)[key].detach().cpu().contiguous() for key in _translator_keys(method)}
    data = safetensors.torch.save(chosen)
    digest = hashlib.sha256(data).hexdigest()
    card = ModelCard(
        format_version=FORMAT_VERSION,
        method=method_name,
        config=dataclasses.asdict(method.config),
        domains=domains,
        code_dim=method.code_dim,
        weights=f"weights-{digest[:16]}.safetensors",
        weights_sha256=digest,
        lineage=dict(lineage or {}),
    )
    storage.write_bytes(storage.join(url, card.weights), data)
    storage.write_bytes(storage.join(url, FILE_NAME), json.dumps(dataclasses.asdict(card), indent=2).encode())
    for name in storage.list_dir(url):
        if name.startswith("weights-") and name != card.weights:
            storage.delete(storage.join(url, name))
    return card


def load(url: str) -> Translator:
    """Load a translator that `save` wrote, or one that was registered.

    Args:
        url: the folder, at any storage URL; or `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID/PATH`, of the
            MLflow that MLFLOW_TRACKING_URI names, or of `mlflow.db` beside local runs; several, to be chained, with
            `|` between.

    Raises:
        SourceError: there is no model, or it is damaged, or of another format version.
        ConfigError: its method or config isn't known here.
        StorageError: storage can't be reached.
        TrackingError: MLflow can't be reached.
    """
    if PIPE in url:
        from i2idist.chained import chained

        return chained([load(part) for part in url.split(PIPE)])
    if url.startswith(("models:/", "runs:/")):
        from i2idist.tracking.registry import resolve

        url = resolve(url).folder_url
    card = read_card(url)
    cls = load_method(card.method)
    method = _built(cls, card, url)
    if method.code_dim != card.code_dim:
        raise SourceError(
            f"{url} was saved with code_dim {card.code_dim}, but its config gives {method.code_dim}: "
            "was model.json edited?"
        )
    _load_weights(method, _read_weights(url, card), url)
    return Translator(card, method)


def _built(cls: type[Method], card: ModelCard, url: str) -> Method:
    config = _config(cls, card, url)
    try:
        with torch.random.fork_rng(devices=[]):
            return cls.build(config, card.domains)
    except (IndexError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SourceError(
            f"{url}: no {card.method} can be made of what {FILE_NAME} says ({type(error).__name__}: {error})."
        ) from error


def read_card(url: str) -> ModelCard:
    """What `model.json` of the model folder at `url` says.

    Raises:
        SourceError: there is none, or it is damaged, or of another format version.
        StorageError: storage can't be reached.
    """
    where = storage.join(url, FILE_NAME)
    if not storage.exists(where):
        raise SourceError(f"There is no model at {url}: no {FILE_NAME} there.")
    try:
        values = json.loads(storage.read_bytes(where))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise SourceError(f"{where} has format version {version}; this i2idist reads {FORMAT_VERSION}.")
        return pydantic.TypeAdapter(ModelCard).validate_python(values)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{where} is damaged: {error}") from error


def described(card: Mapping[str, Any]) -> Described | None:
    """What a model is, from the values of its `model.json`; None where they are of something else."""
    if not {"method", "config", "domains"} <= card.keys():
        return None
    return pydantic.TypeAdapter(Described).validate_python({key: card[key] for key in ("method", "config", "domains")})


def _config(cls: type[Method], card: Described, url: str) -> Any:
    known = {f.name for f in dataclasses.fields(cls.Config)}
    for key in card.config:
        if key not in known:
            raise ConfigError(f"{url}: {card.method} has no setting '{key}'.{nearest(key, known)}")
    try:
        return pydantic.TypeAdapter(cls.Config).validate_python(card.config)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{url}: the config doesn't fit {card.method}: {error}") from error


def _read_weights(url: str, card: ModelCard) -> dict[str, Tensor]:
    where = storage.join(url, card.weights)
    if not storage.exists(where):
        raise SourceError(f"{where} is missing, which {FILE_NAME} names: save the model again.")
    data = storage.read_bytes(where)
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.weights_sha256:
        raise SourceError(f"{where} is damaged: expected SHA-256 {card.weights_sha256}, found {digest}. Save it again.")
    return parse_tensors(data, where)


def _load_weights(method: Method, weights: Mapping[str, Tensor], url: str) -> None:
    """Copy weights into the networks that translation needs; the others keep their random ones.

    Raises:
        SourceError: names or shapes differ.
    """
    wanted = dict(method.state_dict())
    needed = set(_translator_keys(method))
    wrong = _names(n for n in needed & weights.keys() if wanted[n].shape != weights[n].shape)
    missing, unknown = _names(needed - weights.keys()), _names(weights.keys() - needed)
    if missing or unknown or wrong:
        raise SourceError(
            f"The weights at {url} don't fit their config. Missing: {missing or 'none'}; unknown: {unknown or 'none'}; "
            f"of another shape: {wrong or 'none'}."
        )
    with torch.no_grad():
        for name in needed:
            wanted[name].copy_(weights[name])


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:8])
