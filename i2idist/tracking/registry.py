"""The model registry: models of MLflow that hold ours (see `packaging`), found by name, version or alias."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

import i2idist
from i2idist.data.cache import default_folder
from i2idist.errors import ConfigError, SourceError, nearest
from i2idist.model import ModelCard, read_card
from i2idist.tracking.fetch import DIGEST, LOGGED, NAMED, OF_RUN, fetch, model_digest
from i2idist.tracking.packaging import package_sha256, write_mlflow_model
from i2idist.tracking.place import ABSENT, connect, default_tracking, experiment_id, mlflow_errors, tracking_uri
from i2idist.tracking.settings import Tracking, shown

CANDIDATE, CHAMPION = "candidate", "champion"
_LISTED = 1000


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
        run_id: the MLflow run that made it; by default the one that the model's lineage names, if MLflow has it here.
        tags: kept with the version, besides method, run, checkpoint, dataset digest and package version.
        alias: given to the version; None: none.
        uri: the tracking server or database, see `tracking_uri`.

    Returns:
        The version.

    Raises:
        ConfigError: a name or an alias that the registry refuses.
        SourceError: there is no model at `model_url`, or no run `run_id`.
        TrackingError: MLflow can't be reached, or refuses.
    """
    check_model_name(name)
    if alias:
        check_alias(alias)
    where = tracking_uri(uri)
    card, digest = read_card(model_url), model_digest(model_url)
    with mlflow_errors(f"register {model_url} as '{name}'", where):
        client = connect(where)
        run_id = run_id or _run_of(client, card)
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
        ConfigError: an alias that the registry refuses.
        SourceError: there is no such model, version or alias.
        TrackingError: MLflow can't be reached.
    """
    check_alias(alias)
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
    folder = str(fetch(client, pinned, where, cache or default_folder().parent / "models"))
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
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}", name) or LOGGED.fullmatch(f"models:/{name}"):
        raise ConfigError(
            f"'{name}' can't name a registered model: use 1 to 200 letters, digits, dashes and underscores, "
            "a letter or digit first."
        )


def check_alias(alias: str) -> None:
    """Refuse an alias that registries or URIs can't hold.

    Raises:
        ConfigError: it is empty, has other characters than letters, digits, dashes and underscores, or looks like a
            version.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", alias) or re.fullmatch(r"(?i)latest|v?[0-9]+", alias):
        raise ConfigError(
            f"'{alias}' can't be an alias: use 1 to 200 letters, digits, dashes and underscores, neither 'latest' nor "
            "a number such as 'v1'."
        )


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


def _run_of(client: MlflowClient, card: ModelCard) -> str | None:
    """The run that the model's lineage names; None where it was tracked elsewhere."""
    found = card.lineage.get("mlflow_run_id")
    if found is None:
        return None
    try:
        return str(client.get_run(found).info.run_id)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None


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
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        known = [model.name for model in client.search_registered_models(max_results=_LISTED)]
        return f"There is no registered model '{name}' in {shown(uri)}.{nearest(name, known)}"
    versions = sorted((int(v.version) for v in client.search_model_versions(f"name = '{name}'")), reverse=True)
    aliases = ", ".join(f"{alias} = {version}" for alias, version in model.aliases.items())
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
    if named := NAMED.fullmatch(model_uri):
        version = _find(client, uri, named[1], named[2], named[3])
        return f"models:/{version.name}/{version.version}", version
    if LOGGED.fullmatch(model_uri) or OF_RUN.fullmatch(model_uri):
        return model_uri, None
    raise ConfigError(
        f"'{model_uri}' names no model: use models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/PATH, or the URL of a "
        "model folder."
    )
