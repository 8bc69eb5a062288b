"""Runs on one process: created, stopped, resumed, changed, refused."""

import dataclasses
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

import i2idist
from i2idist import launch, storage
from i2idist.errors import ConfigError, LeaseError, NonFiniteError, RunError, SampleError, ShardError, SizeError
from i2idist.launch import lease
from i2idist.launch.lease import Record
from i2idist.launch.processes import Process
from i2idist.launch.run_folder import RunFolder
from i2idist.train.checkpoint import Checkpoints


def at(images, action):
    """An `on_event` that acts once, when so many images are reached."""
    done = []

    def on_event(event):
        if event["event"] == "metrics" and event["images"] >= images and not done:
            done.append(event)
            action()

    return on_event


def test_a_run_leaves_its_whole_story(tiny, root, steps, metrics):
    said, events = [], []
    recipe = tiny(train={"validate_every_images": 24, "best_metric": "generator/l1", "validation_images": 5})
    result = i2idist.train(recipe, run="first", root=root, on_event=events.append, say=said.append)
    folder = RunFolder(root, "first")
    assert (result.run, result.images, result.steps, result.stopped) == ("first", 48, 12, "done")
    assert folder.result()["params_sha256"] == result.params_sha256
    assert result.best in ("images-000000000024", "images-000000000048")
    assert [e["event"] for e in events[:2]] == ["launch", "metrics"]
    assert events[1:] == metrics(root, "first")
    assert [e["images"] for e in steps(root, "first")] == list(range(4, 49, 4))
    assert [e["images"] for e in metrics(root, "first") if e["event"] == "validation"] == [24, 48]
    assert Checkpoints(folder.checkpoints).names()[-1] == os.path.basename(result.checkpoint)
    record = folder.record()
    assert record["launches"][0]["facts"]["threads_per_worker"] == 1
    assert len(record["data_digest"]) == 64
    assert folder.experiment().digest in Path(root, "first", "experiment.yaml").read_text()
    assert "done at 48 images" in Path(folder.log(0)).read_text()
    assert said == [f"Created run first in {root}"]


def test_stopped_and_resumed_equals_undisturbed(tiny, root, steps):
    recipe = tiny("cyclegan")
    whole = launch.train(recipe, run="whole", root=root)

    def ask():
        launch.stop("parts", root=root)
        time.sleep(1.3)  # the request is looked for every second

    stopped = launch.train(recipe, run="parts", root=root, on_event=at(20, ask))
    assert (stopped.stopped, stopped.images, stopped.signal) == ("stop", 20, None)
    said = []
    resumed = launch.resume("parts", root=root, say=said.append)
    assert said == [f"Continuing run parts in {root}"]
    assert (resumed.stopped, resumed.images) == ("done", 48)
    assert resumed.params_sha256 == whole.params_sha256
    assert steps(root, "parts") == steps(root, "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint(tiny, root, number):
    before = signal.getsignal(number)
    result = launch.train(tiny(), run="x", root=root, on_event=at(16, lambda: os.kill(os.getpid(), number)))
    assert (result.stopped, result.images, result.signal) == ("stop", 16, number)
    assert result.checkpoint.endswith("images-000000000016")
    assert signal.getsignal(number) is before


def test_a_second_signal_aborts(tiny, root):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        launch.train(tiny(), run="x", root=root, on_event=at(16, twice))
    assert launch.resume("x", root=root).stopped == "done"


def test_a_crash_between_checkpoints_leaves_each_step_once(tiny, root, steps):
    class Crash(Exception):
        pass

    def crash():
        raise Crash

    recipe = tiny()
    whole = launch.train(recipe, run="whole", root=root)
    for images in (8, 32):  # before the first checkpoint, and between two
        with pytest.raises(Crash):
            launch.train(recipe, run="parts", root=root, on_event=at(images, crash))
    with Path(root, "parts", "metrics.jsonl").open("a") as file:
        file.write('{"event": "metrics", "ima')  # a line cut off by a kill
    result = launch.train(recipe, run="parts", root=root)
    assert result.params_sha256 == whole.params_sha256
    assert steps(root, "parts") == steps(root, "whole")
    assert "Crash" in Path(root, "parts", "log.txt").read_text()


def test_a_finished_run_says_so_and_may_grow(tiny, root):
    recipe = tiny()
    first = launch.train(recipe, run="x", root=root)
    said = []
    assert launch.train(recipe, run="x", root=root, say=said.append) == first
    assert said == ["The run x is finished: 48 images (done)."]
    with pytest.raises(RunError, match="The run 'x' has ended, so there is nothing to stop"):
        launch.stop("x", root=root)
    grown = launch.resume("x", root=root, overrides={"train.total_images": 56}, say=said.append)
    assert grown.images == 56
    assert "Changed: train.total_images 48 -> 56" in said
    assert RunFolder(root, "x").experiment().train.total_images == 56
    assert launch.resume("x", root=root).params_sha256 == grown.params_sha256


def test_a_changed_experiment_is_refused_by_its_keys(tiny, root):
    recipe = tiny()
    launch.train(recipe, run="x", root=root, overrides={"train.total_images": 8})
    with pytest.raises(
        RunError, match=r"another experiment: method.lambda_l1 is 100.0 there, 50.0 here; seed is 0 there, 3 here\. "
    ):
        launch.train(recipe, run="x", root=root, overrides={"method.lambda_l1": 50, "seed": 3})
    edited = Path(root, "x", "experiment.yaml")
    edited.write_text(edited.read_text().replace("batch_size: 4", "batch_size: 8"))
    with pytest.raises(RunError, match="experiment.yaml was edited"):
        launch.resume("x", root=root)


def test_changed_data_are_refused_and_moved_data_are_not(tiny, root, tmp_path):
    from i2idist.data.generated import generate

    overrides = {"train.total_images": 8}
    for name, seed in (("here", 0), ("there", 0), ("other", 1)):
        generate("edges", str(tmp_path / name), size=16, train=8, val=0, test=0, seed=seed)
    recipe = tiny(data={"url": str(tmp_path / "here")})
    launch.train(recipe, run="x", root=root, overrides=overrides)
    overrides = {"train.total_images": 16, "data.url": str(tmp_path / "there")}
    assert launch.resume("x", root=root, overrides=overrides).images == 16
    with pytest.raises(RunError, match="The data of run 'x' changed"):
        launch.resume("x", root=root, overrides={"train.total_images": 24, "data.url": str(tmp_path / "other")})


def test_other_threads_continue_within_tolerance_and_say_so(tiny, root):
    launch.train(tiny(), run="x", root=root, overrides={"train.total_images": 8})
    events = []
    changes = {"train.total_images": 16, "resources.threads_per_worker": 2}
    launch.resume("x", root=root, overrides=changes, on_event=events.append)
    notes = [e["message"] for e in events if e["event"] == "note"]
    assert notes == ["Continues within tolerance, not bit for bit: threads_per_worker 1 -> 2."]
    assert [e["message"] for e in launch.logs("x", root=root) if e["event"] == "note"] == notes


def test_another_host_that_writes_keeps_the_folder_untouched(tiny, root):
    launch.train(tiny(), run="x", root=root, overrides={"train.total_images": 8})
    folder = RunFolder(root, "x")
    holder = dataclasses.replace(Process.current(), host="faraway/boot/pid")
    place = Path(folder.lease, "00000099.json")
    place.write_bytes(Record("theirs", "their session", holder, holder).dump())
    folder.request_stop()
    before = {path: path.read_bytes() for path in Path(folder.url).glob("*.*") if path.name != "log.txt"}
    threading.Timer(0.7, lambda: place.write_bytes(Record("theirs", "x", holder, holder, beat=1).dump())).start()
    said = []
    with pytest.raises(LeaseError, match="on faraway"):
        launch.resume("x", root=root, overrides={"train.total_images": 16}, say=said.append)
    assert len(said) == 1 and "Waiting for process" in said[0]
    assert {path: path.read_bytes() for path in before} == before
    assert folder.result() is not None and folder.stop_requested()


def test_a_former_holder_commits_nothing(tiny, root):
    holder = Process.current()

    folder = RunFolder(root, "x")
    checkpoints = Checkpoints(folder.checkpoints)

    def take_over():
        while not checkpoints.names():  # it is written in the background
            time.sleep(0.05)
        Path(folder.lease, "00000099.json").write_bytes(Record("theirs", "their session", holder, holder).dump())

    with pytest.raises(LeaseError, match="taken over"):
        launch.train(tiny(), run="x", root=root, on_event=at(16, take_over))
    assert checkpoints.names() == ["images-000000000012"]
    assert RunFolder(root, "x").result() is None


def test_the_lease_is_given_back_where_the_journal_cannot_be_opened(tiny, root):
    Path(root, "x", "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(OSError):
        launch.train(tiny(), run="x", root=root)
    assert lease.newest(RunFolder(root, "x").lease)[1].released


def test_one_writer_at_a_time(tiny, root):
    recipe, errors = tiny(), []

    def second():
        try:
            launch.train(recipe, run="x", root=root)
        except LeaseError as error:
            errors.append(str(error))

    def compete():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    result = launch.train(recipe, run="x", root=root, on_event=at(16, compete))
    assert result.stopped == "done"
    assert len(errors) == 1
    assert f"The run 'x' is being written by process {os.getpid()} on" in errors[0]
    assert "i2idist stop x" in errors[0]


def test_nothing_is_created_for_what_cannot_run(tiny, root):
    cases = [
        (ConfigError, {"train.batch_size": 3, "resources.launcher": "ray", "resources.num_workers": 4}, "4 workers"),
        (SizeError, {"data.size": [16, 20]}, "16x20"),
        (ConfigError, {"data.split": "tain"}, "Did you mean 'train'"),
        (ConfigError, {"method": "segan", "data.url": "generated:digit"}, "Did you mean 'digits'"),
        (ConfigError, {"method": {"name": "munit", "lambda_vgg": 1.0}}, "starts from VGG16 .*sources: {vgg: URI}"),
        (ConfigError, {"method": "bicyclegan", "data.label_maps": {"a": 2}}, "names a, but the method bicyclegan"),
    ]
    for kind, overrides, message in cases:
        with pytest.raises(kind, match=message):
            launch.train(tiny(), run="x", root=root, overrides=overrides)
    assert not Path(root).exists()


def test_errors_while_training_keep_their_kind(tiny, root, tmp_path):
    from i2idist.data.generated import generate

    with pytest.raises(NonFiniteError, match="not finite at"):
        launch.train(tiny(), run="x", root=root, overrides={"method.lr": 1e300})
    generate("edges", str(tmp_path / "damaged"), size=16, train=8, val=0, test=0)
    shard = next(Path(tmp_path, "damaged", "train").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-4096] + b"x" * 4096)
    with pytest.raises((ShardError, SampleError), match=shard.name):
        launch.train(tiny(data={"url": str(tmp_path / "damaged")}), run="y", root=root)


def test_initial_weights_come_from_another_run_and_are_pinned(tiny, root):
    recipe = tiny()
    first = launch.train(recipe, run="first", root=root, overrides={"train.total_images": 12})
    overrides = {"init_from": "first", "train.total_images": 4, "method.lr": 1e-30}
    second = launch.train(recipe, run="second", root=root, overrides=overrides)
    other = launch.train(recipe, run="other", root=root, overrides={**overrides, "init_from": None})
    start = Checkpoints(RunFolder(root, "first").checkpoints).newest()[1].tensors
    found = Checkpoints(RunFolder(root, "second").checkpoints).newest()[1].tensors
    far = Checkpoints(RunFolder(root, "other").checkpoints).newest()[1].tensors
    weights = [name for name in start if name.startswith("method.G.") and name.endswith("weight")]
    assert weights
    assert all((start[name] - found[name]).abs().max() < 1e-12 for name in weights)
    assert any((start[name] - far[name]).abs().max() > 1e-6 for name in weights)
    pinned = RunFolder(root, "second").experiment().init_from
    assert (pinned.uri, pinned.url) == ("first", first.checkpoint)
    launch.resume("first", root=root, overrides={"train.total_images": 24})
    assert launch.train(recipe, run="second", root=root, overrides=overrides) == second
    assert other.params_sha256 != second.params_sha256


def test_runs_may_lie_in_an_object_store(tiny, root):
    import fsspec

    store = "memory://bucket/runs"
    whole = launch.train(tiny(), run="x", root=root)

    def ask():
        launch.stop("x", root=store)
        time.sleep(1.3)

    try:
        assert launch.train(tiny(), run="x", root=store, on_event=at(16, ask)).stopped == "stop"
        result = launch.resume("x", root=store)
        assert result.checkpoint == "memory://bucket/runs/x/checkpoints/images-000000000048"
        assert result.params_sha256 == whole.params_sha256
        assert [e["images"] for e in launch.logs("x", root=store) if e["event"] == "metrics"] == list(range(4, 49, 4))
    finally:
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_a_commit_in_an_object_store_brings_its_events_along(tiny):
    import fsspec

    store, seen = "memory://events/runs", []

    def look(event):
        commit = f"{store}/x/checkpoints/images-000000000012/COMMIT.json"
        if event["event"] == "checkpoint" and event["images"] == 12:
            deadline = time.monotonic() + 5  # lines are uploaded after 10 s anyway
            while not storage.exists(commit) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.extend(e["images"] for e in launch.logs("x", root=store) if e["event"] == "metrics")

    try:
        launch.train(tiny(), run="x", root=store, overrides={"train.total_images": 16}, on_event=look)
        assert seen == [4, 8, 12]
    finally:
        fsspec.filesystem("memory").rm("/events", recursive=True)


def test_a_crashed_run_ends_its_followers(tiny, root):
    def crash():
        raise KeyError

    with pytest.raises(KeyError):
        launch.train(tiny(), run="x", root=root, on_event=at(16, crash))
    assert [e["images"] for e in launch.logs("x", root=root, follow=True) if e["event"] == "metrics"] == [4, 8, 12, 16]
    launch.stop("x", root=root, wait=True)


def test_followers_see_steps_that_are_taken_again(tiny, root):
    def crash():
        raise KeyError

    with pytest.raises(KeyError):
        launch.train(tiny(), run="x", root=root, on_event=at(20, crash))
    launch_lease = lease.Lease.acquire(RunFolder(root, "x").lease, "s", Process.current(), pytest.fail)
    events = launch.logs("x", root=root, follow=True)
    first = [next(events) for _ in range(6)]
    launch_lease.release()
    launch.resume("x", root=root)
    rest = list(events)
    assert [e["images"] for e in first if e["event"] == "metrics"] == [4, 8, 12, 16, 20]
    assert [e["images"] for e in rest if e["event"] == "metrics"] == list(range(16, 49, 4))


SOURCED = """
from i2idist.methods.pix2pix import Pix2Pix

BUILT = []

class Sourced(Pix2Pix):
    @classmethod
    def build(cls, config, domains, sources=None):
        BUILT.append({name: float(state["w"]) for name, state in (sources or {}).items()})
        method = cls(config, domains)
        if sources:
            next(method.G.parameters()).data.fill_(float(sources["start"]["w"]))
        return method
"""


def test_a_run_needs_its_sources_no_more_once_it_has_a_checkpoint(tiny, root, tmp_path, monkeypatch):
    (tmp_path / "sourced_method.py").write_text(SOURCED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "start.safetensors"
    source.write_bytes(safetensors.torch.save({"w": torch.tensor(0.125)}))

    def crash():
        raise KeyError

    overrides = {"method.name": "sourced_method:Sourced", "sources.start": "start.safetensors"}
    whole = launch.train(tiny(), run="whole", root=root, overrides=overrides)
    with pytest.raises(KeyError):
        launch.train(tiny(), run="x", root=root, overrides=overrides, on_event=at(20, crash))
    assert RunFolder(root, "x").experiment().sources["start"].url == str(source)
    source.unlink()
    assert launch.resume("x", root=root).params_sha256 == whole.params_sha256
    assert sys.modules["sourced_method"].BUILT == [{"start": 0.125}] * 4 + [{}] * 2  # the driver's check, the worker's


def test_logs_follow_until_the_end(tiny, root, metrics):
    seen = []

    def follow():
        thread = threading.Thread(target=lambda: seen.extend(launch.logs("x", root=root, follow=True)))
        thread.start()
        threads.append(thread)

    threads = []
    launch.train(tiny(), run="x", root=root, on_event=at(8, follow))
    threads[0].join(10)
    assert seen == metrics(root, "x") == list(launch.logs("x", root=root))


def test_names_and_absent_runs(tiny, root):
    for name in ("../x", "a/b", "", ".hidden", "x" * 101, "a b"):
        with pytest.raises(ConfigError, match="can't name a run"):
            launch.train(tiny(), run=name, root=root)
    launch.train(tiny(), run="alpha", root=root, overrides={"train.total_images": 4})
    with pytest.raises(RunError, match=r"There is no run 'alpa' in .*Did you mean 'alpha'\?"):
        launch.resume("alpa", root=root)
    minted = [launch.train(tiny(), root=root, overrides={"train.total_images": 4}).run for _ in range(2)]
    assert minted[0] != minted[1]
    assert all(name.startswith("pix2pix-") for name in minted)


def test_early_stop_is_an_end(tiny, root):
    train = {"validate_every_images": 4, "best_metric": "generator/l1", "best_mode": "max", "patience": 2}
    result = launch.train(tiny(train=train), run="x", root=root)
    assert result.stopped == "early"
    said = []
    assert launch.resume("x", root=root, say=said.append) == result
    assert said == [f"The run x is finished: {result.images} images (early)."]
