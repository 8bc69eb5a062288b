"""The model registry: models of MLflow that hold ours (see `packaging`), found by name, version or alias."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

import i2idist
from i2idist import storage
from i2idist.data.cache import default_folder
from i2idist.errors import ConfigError, SourceError, nearest
from i2idist.model import FILE_NAME, ModelCard, read_card
from i2idist.tracking.packaging import FOLDER, package_sha256, write_mlflow_model
from i2idist.tracking.place import ABSENT, connect, default_tracking, experiment_id, mlflow_errors, tracking_uri
from i2idist.tracking.settings import Tracking, shown

CANDIDATE, CHAMPION = "candidate", "champion"
DIGEST = "model_sha256"
_NAMED = re.compile(r"models:/([^/@]+)(?:@([^/]+)|/([0-9]+))")
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")
_OF_RUN = re.compile(r"runs:/([0-9a-f]{32})/(.+)")


@dataclass(frozen=True)
class ResolvedModel:
    """A model that a URI stood for when it was asked.

    Attributes:
        uri: what stands for the same model for good, on any machine: an alias has become a version.
        name: the registered model's name; None for one that is in no registry.
        version: its version; None likewise.
        run_id: the MLflow run that made it, if that is known.
        folder_url: our model folder, on this machine, for `i2idist.model.load`.
    """

    uri: str
    name: str | None
    version: str | None
    run_id: str | None
    folder_url: str


def register(
    model_url: str,
    name: str,
    *,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    alias: str | None = CANDIDATE,
    uri: str | None = None,
) -> str:
    """Register a model folder; the same model again under the same name gives the version that it has.

    Args:
        model_url: what `i2idist.model.save` or `i2idist.launch.export` wrote, at any storage URL.
        name: the registered model's name, made where absent.
        run_id: the MLflow run that made it; by default the one that the model's lineage names.
        tags: kept with the version, besides method, run, checkpoint, dataset digest and package version.
        alias: given to the version; None: none.
        uri: the tracking server or database, see `tracking_uri`.

    Returns:
        The version.

    Raises:
        ConfigError: a name that the registry refuses.
        SourceError: there is no model at `model_url`.
        TrackingError: MLflow can't be reached, or refuses.
    """
    check_model_name(name)
    where = tracking_uri(uri)
    card, digest = read_card(model_url), _digest(model_url)
    run_id = run_id or card.lineage.get("mlflow_run_id")
    with mlflow_errors(f"register {model_url} as '{name}'", where):
        client = connect(where)
        version = version_with(client, name, digest)
        if version is None:
            labels = {**_tags(card, digest), **(tags or {})}
            model_id = _log(client, where, model_url, card, name, run_id, labels)
            version = create_version(client, where, name, model_id, run_id, labels)
        if alias:
            client.set_registered_model_alias(name, alias, version)
    return version


def promote(
    name: str, alias: str = CHAMPION, version: str | None = None, *, source: str = CANDIDATE, uri: str | None = None
) -> str:
    """Give an alias to a version: by default `champion` to the `candidate`.

    Args:
        name: the registered model.
        alias: what the version shall be called.
        version: which; None: the one that has the alias `source`.
        source: see `version`.
        uri: the tracking server or database, see `tracking_uri`.

    Returns:
        The version.

    Raises:
        SourceError: there is no such model, version or alias.
        TrackingError: MLflow can't be reached, or refuses the alias.
    """
    client = connect(where := tracking_uri(uri))
    found = _find(client, where, name, source if version is None else None, version)
    with mlflow_errors(f"give the alias '{alias}' to version {found.version} of '{name}'", where):
        client.set_registered_model_alias(name, alias, found.version)
    return str(found.version)


def resolve(model_uri: str, *, uri: str | None = None, cache: Path | None = None) -> ResolvedModel:
    """Find a model and fetch it.

    Args:
        model_uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-ID` or `runs:/ID/PATH`.
        uri: the tracking server or database, see `tracking_uri`.
        cache: where fetched models are kept; by default below the user's cache folder.

    Raises:
        ConfigError: no such URI.
        SourceError: no such model, or it isn't one of i2idist.
        TrackingError: MLflow can't be reached.
    """
    where = tracking_uri(uri)
    client = connect(where)
    pinned, version = pin_version(client, where, model_uri)
    folder = str(_fetch(client, pinned, where, cache or default_folder().parent / "models"))
    run_id = version.run_id if version else read_card(folder).lineage.get("mlflow_run_id")
    return ResolvedModel(
        uri=pinned,
        name=str(version.name) if version else None,
        version=str(version.version) if version else None,
        run_id=run_id or None,
        folder_url=folder,
    )


def check_model_name(name: str) -> None:
    """Refuse a name that registries or URIs can't hold.

    Raises:
        ConfigError: it is empty, or has other characters than letters, digits, dashes and underscores.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}", name) or _LOGGED.fullmatch(f"models:/{name}"):
        raise ConfigError(
            f"'{name}' can't name a registered model: use 1 to 200 letters, digits, dashes and underscores, "
            "a letter or digit first."
        )


def _digest(model_url: str) -> str:
    """SHA-256 of `model.json`, which names the weights by theirs: it stands for the whole model."""
    return hashlib.sha256(storage.read_bytes(storage.join(model_url, FILE_NAME))).hexdigest()


def _tags(card: ModelCard, digest: str) -> dict[str, str]:
    kept = ("run", "checkpoint", "dataset_digest", "code")
    known = {key: str(card.lineage[key]) for key in kept if card.lineage.get(key)}
    return {
        DIGEST: digest,
        "weights_sha256": card.weights_sha256,
        "format_version": str(card.format_version),
        "method": card.method,
        "i2idist": i2idist.__version__,
        "package_sha256": package_sha256(),
        **known,
    }


def version_with(client: MlflowClient, name: str, digest: str) -> str | None:
    """The newest version that is tagged with this digest; None where there is none."""
    found = client.search_model_versions(f"name = '{name}' and tags.{DIGEST} = '{digest}'")
    return max((str(version.version) for version in found), key=int, default=None)


def _log(
    client: MlflowClient,
    uri: str,
    model_url: str,
    card: ModelCard,
    name: str,
    run_id: str | None,
    tags: Mapping[str, str],
) -> str:
    """Store the model in MLflow; its id there."""
    if run_id:
        experiment = client.get_run(run_id).info.experiment_id
    else:
        experiment = experiment_id(client, uri, Tracking().experiment)
    logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=dict(tags))
    try:
        with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
            description = Model(run_id=run_id, model_id=logged.model_id, metadata=dict(tags))
            client.log_model_artifacts(logged.model_id, str(write_mlflow_model(Path(folder), model_url, description)))
    except BaseException:
        with suppress(MlflowException):
            client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def create_version(
    client: MlflowClient, uri: str, name: str, model_id: str, run_id: str | None, tags: Mapping[str, str]
) -> str:
    """Make a logged model the newest version of a registered one, which is made where absent."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with default_tracking(uri):
        version = client.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
        )
    return str(version.version)


def _find(client: MlflowClient, uri: str, name: str, alias: str | None, version: str | None) -> ModelVersion:
    """The version of that number or alias.

    Raises:
        SourceError: there is none; says which there are.
    """
    with mlflow_errors(f"ask for the model '{name}'", uri):
        try:
            if alias:
                return client.get_model_version_by_alias(name, alias)
            return client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in (*ABSENT, "INVALID_PARAMETER_VALUE"):
                raise
        raise SourceError(_absent(client, uri, name, f"alias '{alias}'" if alias else f"version {version}"))


def _absent(client: MlflowClient, uri: str, name: str, wanted: str) -> str:
    models = {model.name: model for model in client.search_registered_models()}
    if name not in models:
        return f"There is no registered model '{name}' in {shown(uri)}.{nearest(name, models)}"
    versions = sorted((int(v.version) for v in client.search_model_versions(f"name = '{name}'")), reverse=True)
    aliases = ", ".join(f"{alias} = {version}" for alias, version in models[name].aliases.items())
    return (
        f"The registered model '{name}' has no {wanted}. Its versions: {', '.join(map(str, versions)) or 'none'}; "
        f"its aliases: {aliases or 'none'}."
    )


def pin_version(client: MlflowClient, uri: str, model_uri: str) -> tuple[str, ModelVersion | None]:
    """What stands for the same model for good, and its version where it is registered.

    Raises:
        ConfigError: the URI names no model.
        SourceError: there is no such model, alias or version.
    """
    if named := _NAMED.fullmatch(model_uri):
        version = _find(client, uri, named[1], named[2], named[3])
        return f"models:/{version.name}/{version.version}", version
    if _LOGGED.fullmatch(model_uri) or _OF_RUN.fullmatch(model_uri):
        return model_uri, None
    raise ConfigError(
        f"'{model_uri}' names no model: use models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/PATH, or the URL of a "
        "model folder."
    )


def _fetch(client: MlflowClient, pinned: str, uri: str, cache: Path) -> Path:
    """Our model folder, fetched from MLflow into the cache, where it appears when it is whole."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
        with mlflow_errors(f"fetch {pinned}", uri):
            location = location_of(client, pinned)
            fetched = mlflow.artifacts.download_artifacts(
                artifact_uri=location, dst_path=folder, tracking_uri=uri, registry_uri=uri
            )
        own = _own_folder(Path(fetched), pinned)
        kept = cache / _digest(str(own))
        card = read_card(str(own))
        if not _is_whole(kept, card):
            with suppress(FileNotFoundError):
                os.replace(kept, Path(folder, "harmed"))
            with suppress(OSError):  # another process put it there meanwhile
                os.replace(own, kept)
    return kept


def _is_whole(kept: Path, card: ModelCard) -> bool:
    """Whether the cached model, which `model.json` names, still has its weights."""
    weights = kept / card.weights
    if not weights.exists():
        return False
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == card.weights_sha256


def location_of(client: MlflowClient, pinned: str) -> str:
    """Where the files are. MLflow would resolve these URIs at its default tracking URI, whatever the client's."""
    if named := _NAMED.fullmatch(pinned):
        found = str(client.get_model_version_download_uri(named[1], named[3]))
        return location_of(client, found) if _LOGGED.fullmatch(found) else found
    if logged := _LOGGED.fullmatch(pinned):
        return str(client.get_logged_model(logged[1]).artifact_location)
    run_id, path = pinned.removeprefix("runs:/").split("/", 1)
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    of_name = [str(model.artifact_location) for model in models if model.name == path]
    return of_name[-1] if of_name else f"{run.info.artifact_uri}/{path}"


def _own_folder(fetched: Path, pinned: str) -> Path:
    for folder in (fetched / "artifacts" / FOLDER, fetched):
        if (folder / FILE_NAME).exists():
            return folder
    raise SourceError(f"{pinned} is no model of i2idist: it has no {FILE_NAME}.")
