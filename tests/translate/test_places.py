"""Where translations go and who knows of them: object storage, catalog, registry, the command line."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from i2idist import storage
from i2idist.catalog import Catalog
from i2idist.cli import main
from i2idist.translate import Options, translate
from i2idist.translate.job import make_job
from i2idist.translate.shard import ShardTranslator


def test_from_s3_to_s3_gives_the_same_bytes(segan, shards, s3_url, tmp_path, tree, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place, source in (("data", shards), ("model", segan)):
        for name, data in tree(source).items():
            storage.write_bytes(storage.join(s3_url, place, name), data)
    local = translate(segan, shards, str(tmp_path / "out"), Options(num_samples=2), launcher="local")
    there = [
        translate(f"{s3_url}/model", f"{s3_url}/data", f"{s3_url}/out", Options(num_samples=2), launcher="local")
        for _ in range(2)
    ]
    assert [result.kept for result in there] == [0, 4]
    assert there[0].job_digest == local.job_digest
    ours, theirs = tree(local.url), tree(there[0].url)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == theirs[name] for name in ours if not name.endswith((".json", "_SUCCESS")))
    assert json.loads(ours["_SUCCESS"])["outputs"] == json.loads(theirs["_SUCCESS"])["outputs"] == 80


def test_workers_elsewhere_make_generated_data_themselves(segan, tmp_path, monkeypatch):
    digits = "generated:digits?size=16&train=8&val=0&test=70"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    job = make_job(segan, digits, str(tmp_path / "out"), Options(), split="test", domain=None, max_errors=0)
    here = ShardTranslator(job)
    done = [here(item, lambda count: None).shard for item in job.inputs.items]
    here.close()
    sent = pickle.dumps(job.for_workers())
    shutil.rmtree(tmp_path / "here")
    shutil.rmtree(job.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    elsewhere = ShardTranslator(pickle.loads(sent))
    assert [elsewhere(item, lambda count: None).shard for item in job.inputs.items] == done
    elsewhere.close()
    assert job.describe()["dataset_url"] == digits


def test_the_catalog_knows_job_and_shards(segan, shards, catalog, tmp_path):
    result = translate(segan, shards, str(tmp_path / "out"), launcher="local")
    translate(segan, shards, str(tmp_path / "out"), launcher="local")
    with Catalog(catalog) as known:
        (row,) = known.translations()
        assert (row.job_digest, row.state, row.out_url) == (result.job_digest, "done", result.url)
        assert row.dataset_digest == result.dataset_digest
        assert [shard.count for shard in known.shards(row.id)] == [12, 12, 12, 4]
        (dataset,) = known.datasets()
        assert (dataset.digest, dataset.counts) == (result.dataset_digest, {"test": {"a": 40}})


def test_a_translation_of_one_split_tells_the_catalog_of_the_whole_dataset(segan, digits, catalog, tmp_path):
    translate(segan, digits, str(tmp_path / "out"), launcher="local", split="train")
    with Catalog(catalog) as known:
        assert known.datasets()[0].counts == {"train": {"a": 8, "b": 8}, "test": {"a": 70, "b": 70}}


def test_a_failed_job_is_noted(segan, photos, catalog, tmp_path):
    with pytest.raises(Exception, match="More than 0"):
        translate(segan, photos, str(tmp_path / "out"), launcher="local", max_errors=0)
    with Catalog(catalog) as known:
        assert [row.state for row in known.translations()] == ["failed"]


def test_a_catalog_that_is_away_costs_a_warning(segan, shards, tmp_path, monkeypatch):
    (tmp_path / "no folder").write_bytes(b"")
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/no folder/catalog.db")
    monkeypatch.setattr("i2idist.catalog.hooks.PATIENCE_S", 0.5)
    told = []
    result = translate(segan, shards, str(tmp_path / "out"), launcher="local", say=told.append)
    assert result.outputs == 40
    assert any("catalog" in message for message in told)


def test_the_command_ends_with_json(segan, shards, tmp_path, capsys):
    arguments = [segan, shards, str(tmp_path / "out"), "--num-samples", "2", "--launcher", "local", "--size", "16"]
    main_ended("translate", *arguments, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == 80
    main_ended("translate", *arguments)
    shown = capsys.readouterr().out
    assert "80 translations of 40 images in 4 shards, 4 of them kept" in shown
    assert result["url"] in shown
    main_ended("data", "show", result["url"])
    assert "80 b" in capsys.readouterr().out
    assert main_ended("translate", *arguments[:-1], "16x") == 2
    assert "--size is '16x'" in capsys.readouterr().err


def main_ended(*arguments):
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0


def test_a_killed_driver_leaves_what_the_next_one_finishes(segan, shards, tmp_path, tree):
    """The real signal; every other moment is tried in test_job.py."""
    whole = translate(segan, shards, str(tmp_path / "whole"), Options(num_samples=40, batch_size=1), launcher="local")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "i2idist.cli", "translate", segan, shards, str(out)]
    command += ["--num-samples", "40", "--batch-size", "1", "--launcher", "local"]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("*/test/*.json")):
            assert driver.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.002)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not list(out.glob("*/_SUCCESS"))
    again = translate(segan, shards, str(out), Options(num_samples=40, batch_size=1), launcher="local")
    assert 1 <= again.kept < 4
    assert tree(again.url) == tree(whole.url)
    assert Path(again.url).name == Path(whole.url).name
