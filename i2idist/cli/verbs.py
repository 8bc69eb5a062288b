"""What each command that can be submitted needs: checked as the command itself does it, its paths made absolute.

A function of a verb is given the values of the command's parameters, and returns those that travel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2idist import storage
from i2idist.catalog.places import is_place, place
from i2idist.errors import DataError, StorageError, TrackingError
from i2idist.experiment import Experiment, Source, from_dict, read_experiment
from i2idist.launch.head import is_loopback
from i2idist.launch.run_folder import RunFolder, check_name, minted_name, runs_root
from i2idist.launch.runs import check_launch
from i2idist.launch.sources import is_named
from i2idist.launch.submission import EXPERIMENT_FILE, absolute_database
from i2idist.model import Translator
from i2idist.recipe import override, parse_overrides

Values = dict[str, Any]
_PLACES = ("data.url", "data.cache_dir")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A command, checked.

    Attributes:
        name: of the run, or of what else it makes.
        values: its parameters, as they travel.
        root: where runs are.
        run_url: the run's folder.
        experiment: the resolved experiment of a new training.
    """

    name: str
    values: Mapping[str, Any]
    root: str
    run_url: str | None = None
    experiment: Experiment | None = None


class Client:
    """Where a submission comes from, in relation to where it goes."""

    def __init__(self, is_near: bool, say: Callable[[str], None]) -> None:
        """Set out.

        Args:
            is_near: whether the cluster is on this machine, as far as its address tells.
            say: told what a person should know before it is sent.
        """
        self._is_near, self._say = is_near, say

    def place(self, uri: str, what: str) -> str:
        """`uri`, absolute where it is a local path; says so where the cluster may have another thing there."""
        if not is_place(uri) or not storage.is_local(uri):
            return uri
        path = place(uri)
        if not self._is_near:
            self._say(f"Warning: {what} is the local path {path}: every node must see the same there.")
        return path

    def root(self, root: str | None) -> str:
        """Where runs are."""
        return self.place(runs_root(root), "the folder of runs")

    def database(self, uri: str, what: str) -> str:
        """The URI of a server or database, absolute; says so where nodes would look for it on themselves."""
        uri = absolute_database(uri)
        if not self._is_near and (uri.startswith("sqlite") or is_loopback(uri)):
            self._say(f"Warning: {what} is {uri}, which each node would look for on itself.")
        return uri

    def located(self, experiment: Experiment) -> Experiment:
        """The experiment with absolute paths."""
        data, tracking, first = experiment.data, experiment.tracking, experiment.init_from
        return dataclasses.replace(
            experiment,
            data=dataclasses.replace(
                data,
                url=self.place(data.url, "data.url"),
                cache_dir=data.cache_dir and str(Path(data.cache_dir).expanduser().absolute()),
            ),
            tracking=dataclasses.replace(tracking, uri=tracking.uri and self.database(tracking.uri, "tracking.uri")),
            init_from=first and self._source(first, "init_from"),
            sources={name: self._source(source, f"sources.{name}") for name, source in experiment.sources.items()},
        )

    def _source(self, source: Source, key: str) -> Source:
        is_run = "/" not in source.uri and not source.uri.endswith(".safetensors") and not Path(source.uri).exists()
        if is_run or is_named(source.uri):
            return source
        url = source.url and self.place(source.url, key)
        return dataclasses.replace(source, uri=self.place(source.uri, key), url=url)

    @contextmanager
    def looking_at(self, *uris: str) -> Iterator[bool]:
        """Whether what is at `uris` can be checked from here; where it can't be reached, the cluster may reach it."""
        are_local = [storage.is_local(uri) and is_place(uri) for uri in uris]
        try:
            yield self._is_near or not any(are_local)
        except (StorageError, TrackingError) as error:
            if all(are_local):
                raise
            self._say(f"Not checked from here: {error}")


def train(values: Values, client: Client) -> Prepared:
    """`i2idist train`: the whole experiment is resolved here, and travels."""
    overrides = parse_overrides(values["overrides"] or ())
    overrides |= {"init_from": values["init_from"]} if values["init_from"] else {}
    overrides |= {"tracking.offline": True} if values["offline"] else {}
    experiment = read_experiment(values["recipe"], overrides)
    name = values["run"] or minted_name(Path(values["recipe"]).stem)
    folder = RunFolder(client.root(values["root"]), name)
    experiment = client.located(experiment)
    with client.looking_at(folder.root, experiment.data.url) as can_look:
        if can_look:
            check_launch(folder, experiment)
    travels = {"recipe": EXPERIMENT_FILE, "run": name, "root": folder.root}
    return Prepared(name=name, values=travels, root=folder.root, run_url=folder.url, experiment=experiment)


def resume(values: Values, client: Client) -> Prepared:
    """`i2idist resume`: the run's folder holds the experiment."""
    texts = list(values["overrides"] or ())
    changes = parse_overrides(texts)
    for key in _PLACES:
        if isinstance(changes.get(key), str):
            changes[key] = client.place(changes[key], key)
            texts = [f"{key}={changes[key]}" if text.startswith(f"{key}=") else text for text in texts]
    folder = RunFolder(client.root(values["root"]), values["name"])
    with client.looking_at(folder.root) as can_look:
        if can_look:
            _check_resume(RunFolder.existing(folder.root, folder.name), changes, client)
    travels = {"name": folder.name, "overrides": texts, "root": folder.root}
    return Prepared(name=folder.name, values=travels, root=folder.root, run_url=folder.url)


def _check_resume(folder: RunFolder, changes: Values, client: Client) -> None:
    raw = override(folder.experiment().as_dict(), changes)
    experiment = from_dict(raw, folder.file("experiment.yaml"), changes)
    with client.looking_at(folder.root, experiment.data.url) as can_look:
        if can_look:
            check_launch(folder, experiment)


def translate(values: Values, client: Client) -> Prepared:
    """`i2idist translate`."""
    from i2idist.cli.translate import parse_size
    from i2idist.translate import Options
    from i2idist.translate.pool import check_workers

    parse_size(values["size"])
    check_workers(values["launcher"], values["workers"])
    keys = {"model_uri": "the model", "dataset_url": "the dataset", "out_url": "the output", "style_from": "the style"}
    travels = {**values, **{key: client.place(values[key], what) for key, what in keys.items() if values[key]}}
    options = Options(num_samples=values["num_samples"], style_from=travels["style_from"])
    looked_at = [travels[key] for key in ("model_uri", "dataset_url", "style_from") if travels[key]]
    with client.looking_at(*looked_at) as can_look:
        if can_look:
            options.resolved(_check_translation(travels))
    return Prepared(name=minted_name("translate"), values=travels, root=client.root(None))


def sample(values: Values, client: Client) -> Prepared:
    """`i2idist sample`."""
    from i2idist.translate.job import pin_model
    from i2idist.translate.pool import check_workers

    check_workers(values["launcher"], values["workers"])
    travels = {**values, **{key: client.place(values[key], key) for key in ("model_uri", "out_url")}}
    with client.looking_at(travels["model_uri"]) as can_look:
        if can_look:
            _, translator = pin_model(travels["model_uri"])
            translator.sample(1, target=values["target"])
    return Prepared(name=minted_name("sample"), values=travels, root=client.root(None))


def _check_translation(values: Values) -> Translator:
    """Look at the model, and at the dataset if it is packed: a folder's images would all be read for their digest."""
    from i2idist.data.generated import is_generated, parse
    from i2idist.data.manifest import is_packed
    from i2idist.translate.inputs import find_inputs
    from i2idist.translate.job import pin_model

    model, translator = pin_model(values["model_uri"])
    url, domains = values["dataset_url"], model.card.domains
    if is_generated(url):
        parse(url)
    elif is_packed(url):
        source, _ = domains.route(values["target"])
        find_inputs(url, source, split=values["split"], domain=values["domain"])
    elif not storage.exists(url):
        raise DataError(f"There is nothing to translate at {url}.")
    return translator


def evaluate(values: Values, client: Client) -> Prepared:
    """`i2idist evaluate`."""
    from i2idist.cli.translate import parse_size
    from i2idist.evaluate import choose
    from i2idist.translate.pool import check_workers

    parse_size(values["size"])
    check_workers(values["launcher"], values["workers"])
    for protocol in values["protocol"]:
        choose(protocol, **{key: values[key] for key in ("network", "inputs", "samples", "seed")})
    keys = {"model_uri": "the model", "dataset_url": "the dataset", "reference": "the reference"}
    keys |= {"classifier": "the classifier", "root": "the folder of runs"}
    travels = {**values, **{key: client.place(values[key], what) for key, what in keys.items() if values[key]}}
    if values["tracking_uri"]:
        travels["tracking_uri"] = client.database(values["tracking_uri"], "--tracking-uri")
    with client.looking_at(travels["model_uri"], travels["dataset_url"]) as can_look:
        if can_look:
            _check_translation(travels)
    return Prepared(name=minted_name("evaluate"), values=travels, root=client.root(values["root"]))


def data_pack(values: Values, client: Client) -> Prepared:
    """`i2idist data pack`."""
    from i2idist.cli.data import label_names
    from i2idist.data.layouts import read_layout
    from i2idist.data.pack import check_place

    travels = {**values, "src": client.place(values["src"], "SRC"), "dest": client.place(values["dest"], "DEST")}
    with client.looking_at(travels["src"], travels["dest"]) as can_look:
        if can_look:
            check_place(travels["dest"])
            named = {key: label_names(values[key]) for key in ("labels", "pairs")}
            read_layout(travels["src"], values["layout"], **named, limit=values["limit"], crop=values["crop"])
    return Prepared(name=minted_name(f"pack-{Path(travels['dest']).name}"), values=travels, root=client.root(None))


def tune(values: Values, client: Client) -> Prepared:
    """`i2idist tune run`: the search is read there again, from the same place."""
    from i2idist.tuning import read_search, searches
    from i2idist.tuning.storage import storage_url

    texts = list(values["overrides"] or ())
    overrides = parse_overrides(texts) | ({"tracking.offline": True} if values["offline"] else {})
    changed = {key: values[key] for key in ("trials", "hours", "concurrency")}
    search = read_search(values["search"], overrides, **changed)
    for key in _PLACES:
        if isinstance(overrides.get(key), str):
            text = f"{key}={client.place(overrides[key], key)}"
            texts = [text if given.startswith(f"{key}=") else given for given in texts]
    root = client.root(values["root"])
    name = values["study"] or search.name
    check_name(f"{name}-t0-s0")
    storage = client.database(storage_url(values["storage"], root), "the study storage")
    travels = {**values, "overrides": texts, "study": name, "storage": storage, "root": root}
    if values["search"] not in searches():
        travels["search"] = client.place(values["search"], "the search")
    return Prepared(name=name, values=travels, root=root)
