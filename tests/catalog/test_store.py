"""What is written and found again, on both databases."""

import subprocess
import sys

import pytest

from i2idist.catalog import Catalog, default_url, exists
from i2idist.catalog.models import Job, now
from i2idist.catalog.store import BEING_SENT
from i2idist.errors import CatalogError

A, B, C = "a" * 64, "b" * 64, "c" * 64
TRANSLATION = (B, "models:/m/3", "3", "s3://team/new", A, "s3://team/out/m-v3-bbbbbb/", {"num_samples": 4})


def states(catalog):
    return {job.id: job.state for job in catalog.jobs()}


def test_a_dataset_is_noted_once_a_version_and_place(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = {"train": {"a": 3, "b": 4}}
    for url in ("s3://team/w2s", "s3://team/w2s/"):
        catalog.record_dataset(url, "w2s", A, "unpaired", counts)
    catalog.record_dataset("s3://team/w2s", "w2s", B, "unpaired", counts)
    catalog.record_dataset("here", "w2s", A, "unpaired", counts)
    rows = catalog.datasets()
    places = [str(tmp_path / "here"), "s3://team/w2s", "s3://team/w2s"]
    assert [(row.url, row.digest) for row in rows] == list(zip(places, [A, B, A], strict=True))
    assert rows[0].counts == counts
    assert rows[0].as_dict()["created"].endswith("+00:00")
    assert [row.digest for row in catalog.find("aaaaaaa")] == [A, A]
    assert [row.url for row in catalog.find("here")] == [str(tmp_path / "here")]


def test_what_a_cluster_tells_of_submissions(catalog):
    told = {"done": "done", "asked": "done", "bad": "failed", "ended": "stopped", "noted": "running"}
    for id in (*told, "gone", "sent"):
        catalog.start_job("train", id, submission_id=id, address="http://here:1", run_url=f"s3://team/runs/{id}")
    catalog.start_job("train", "elsewhere", submission_id="elsewhere", address="http://there:1")
    catalog.start_job("train", "local")
    catalog.stopping("s3://team/runs/asked")
    catalog.update_job(catalog.find_job("noted").id, state="failed", error="by its launch")
    with catalog._writing() as session:
        session.get(Job, catalog.find_job("gone").id).created = now() - 2 * BEING_SENT

    def refresh():
        return catalog.refresh_submissions({id: (state, None) for id, state in told.items()}, "http://here:1")

    for _ in range(2):
        states = {id: row["state"] for id, row in refresh().items()}
        assert states == {
            **{"done": "done", "asked": "stopped", "bad": "failed", "ended": "stopped", "noted": "failed"},
            **{"gone": "lost", "sent": "pending"},
        }
        assert {name: catalog.find_job(name).state for name in states} == states
    assert (catalog.find_job("elsewhere").state, catalog.find_job("local").state) == ("pending", "pending")
    told["gone"] = "running"
    assert refresh()["gone"]["state"] == "running"


def test_a_job_from_launch_to_end(catalog):
    experiment = {"train": {"total_images": 48, "lr": 2e-4, "best": None}, "text": "%s ' ; DROP TABLE jobs --"}
    number = catalog.start_job("train", "w2s", experiment=experiment, run_url="s3://team/runs/w2s/", study="lambda")
    job = catalog.find_job("w2s")
    assert (job.id, job.state, job.kind, job.run_url) == (number, "pending", "train", "s3://team/runs/w2s")
    assert job.experiment == experiment
    catalog.update_job(number, state="running")
    catalog.update_job(number, mlflow_run_id="f00")
    assert (catalog.find_job("w2s").state, catalog.find_job("w2s").mlflow_run_id) == ("running", "f00")
    catalog.update_job(number, state="failed", error="RunError: no more room")
    job = catalog.find_job("w2s")
    assert (job.state, job.mlflow_run_id, job.error) == ("failed", "f00", "RunError: no more room")
    assert job.updated >= job.created


def test_a_submission_and_its_launch_are_one_job(catalog):
    first = catalog.start_job("train", "w2s", submission_id="s-1", address="http://h:8265")
    catalog.update_job(first, state="running")
    assert catalog.start_job("train", "w2s", submission_id="s-1", run_url="s3://team/runs/w2s") == first
    job = catalog.find_job("s-1")
    assert (job.address, job.run_url, job.state) == ("http://h:8265", "s3://team/runs/w2s", "running")
    other = catalog.start_job("train", "another", submission_id="s-1")  # a search, say, which trains many
    catalog.update_job(first, state="done")
    again = catalog.start_job("train", "w2s", submission_id="s-1")
    assert len({first, other, again}) == 3


def test_a_launch_that_ended_without_a_word_is_lost(catalog):
    killed = catalog.start_job("train", "w2s", run_url="/runs/w2s")
    catalog.update_job(killed, state="running")
    other = catalog.start_job("train", "other", run_url="/runs/other")
    resumed = catalog.start_job("resume", "w2s", run_url="/runs/w2s")
    assert states(catalog) == {killed: "running", other: "pending", resumed: "pending"}
    catalog.update_job(resumed, state="running")
    assert states(catalog) == {killed: "lost", other: "pending", resumed: "running"}
    catalog.stopping("/runs/w2s")
    assert states(catalog) == {killed: "lost", other: "pending", resumed: "stopping"}
    assert [job.id for job in catalog.runs()] == [resumed, other]


def test_a_translation_is_continued_and_its_shards_replaced(catalog):
    number = catalog.start_translation(*TRANSLATION)
    catalog.record_shard(number, "test/b-00001.tar", "running", 0, None)
    catalog.finish_translation(number, "failed")
    assert catalog.start_translation(*TRANSLATION) == number
    for _ in range(2):
        catalog.record_shard(number, "test/b-00001.tar", "done", 7, A)
        catalog.record_shard(number, "test/b-00000.tar", "done", 8, B)
    (row,) = catalog.translations()
    assert (row.state, row.out_url, row.options) == ("running", "s3://team/out/m-v3-bbbbbb", {"num_samples": 4})
    shards = [(s.shard, s.state, s.count, s.digest) for s in catalog.shards(number)]
    assert shards == [("test/b-00000.tar", "done", 8, B), ("test/b-00001.tar", "done", 7, A)]
    catalog.finish_translation(number, "done")
    assert [row.state for row in catalog.translations()] == ["done"]
    assert catalog.find("bbbbbbb")[0].id == catalog.find("s3://team/out/m-v3-bbbbbb")[0].id == number


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.find_job("w2z"), r"no job 'w2z'\. Did you mean 'w2s'\?"),
        (lambda c: c.find("w2z"), r"knows nothing named 'w2z'\. Did you mean 'w2s'\?"),
        (lambda c: c.find("%"), "knows nothing named '%'"),
        (lambda c: c.update_job(1, state="runing"), "'runing' is no state of a job. Did you mean 'running'"),
        (lambda c: c.update_job(77), "no job 77"),
        (lambda c: c.finish_translation(77, "done"), "no translation 77"),
        (lambda c: c.finish_translation(1, "lost"), "no state of a translation"),
        (lambda c: c.record_shard(77, "x.tar", "done", 1, A), "(?i)foreign key"),
        (lambda c: c.record_shard(77, "x.tar", "gone", 1, A), "no state of a shard"),
    ],
)
def test_what_is_not_there_is_named(catalog, call, message):
    catalog.start_job("train", "w2s")
    with pytest.raises(CatalogError, match=message):
        call(catalog)
    assert len(catalog.jobs()) == 1


WRITER = """
import sys
from i2idist.catalog import Catalog
url, own = sys.argv[1:]
with Catalog(url) as catalog:
    shared = catalog.start_translation("d" * 64, "m", None, "/d", "a" * 64, "/out", {})
    for turn in range(15):
        number = catalog.start_job("train", f"{own}-{turn}")
        catalog.update_job(number, state="done")
        catalog.record_shard(shared, f"{turn}.tar", "done", turn, None)
        catalog.record_dataset("/d", "d", "a" * 64, "images", {})
"""


def test_processes_write_at_once(url):
    commands = [[sys.executable, "-c", WRITER, url, str(own)] for own in range(3)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 3
    with Catalog(url) as catalog:
        jobs = catalog.jobs(limit=None)
        assert {job.name for job in jobs} == {f"{own}-{turn}" for own in range(3) for turn in range(15)}
        assert {job.state for job in jobs} == {"done"}
        assert len(catalog.datasets()) == 1
        (row,) = catalog.translations()
        assert sorted(shard.count for shard in catalog.shards(row.id)) == list(range(15))


def test_a_reader_waits_for_no_writer(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.db") as catalog:
        catalog.start_job("train", "before")
        with catalog._writing() as session:
            session.add(Job(kind="train", name="under way", state="pending"))
            session.flush()
            assert [job.name for job in catalog.jobs()] == ["before"]
        assert len(catalog.jobs()) == 2


def test_a_restarted_postgres_is_found_again(server, postgres_url):
    with Catalog(postgres_url) as catalog:
        number = catalog.start_job("train", "w2s")
        server.kill()
        with pytest.raises(CatalogError, match="Check that the server runs"):
            catalog.update_job(number, state="running")
        server.back()
        catalog.update_job(number, state="done")
        assert catalog.find_job("w2s").state == "done"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://h/x", "can't be kept in 'mysql'. Use sqlite"),
        ("nonsense", "URL can't be read. Use sqlite"),
        ("sqlite:////proc/nowhere/c.db", "/proc/nowhere.* Check that the folder can be written"),
        ("postgresql://u:hush@127.0.0.1:1/x", "Connection refused.* Check that the server runs"),
        ("postgresql://127.0.0.1:1/x?password=hush", "Connection refused.* Check that the server runs"),
    ],
)
def test_a_database_that_is_not_there(url, message):
    with pytest.raises(CatalogError, match=message) as caught:
        Catalog(url)
    assert "hush" not in str(caught.value)


def test_a_missing_postgres_database_and_a_wrong_password_are_named(server, tmp_path):
    with pytest.raises(CatalogError, match='database "nowhere" does not exist'):
        Catalog(server.url("nowhere"))
    wrong = server.url("postgres").split("?")[0].replace("i2idist@", "i2idist:hush@")
    with pytest.raises(CatalogError, match="password authentication failed") as caught:
        Catalog(wrong)
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "c.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(CatalogError, match="not a database"):
        Catalog(f"sqlite:///{tmp_path}/c.db")


def test_where_the_catalog_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("I2IDIST_CATALOG", "I2IDIST_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert default_url() == f"sqlite:///{tmp_path}/runs/catalog.db"
    assert default_url("s3://team/runs") == f"sqlite:///{tmp_path}/home/i2idist/catalog.db"
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "elsewhere"))
    assert default_url() == f"sqlite:///{tmp_path}/elsewhere/catalog.db"
    assert not exists(default_url())
    Catalog().close()
    assert exists(default_url())
    monkeypatch.setenv("I2IDIST_CATALOG", "postgresql://h/x")
    assert default_url("s3://team/runs") == "postgresql://h/x"


def test_a_value_is_noted_once_a_name_and_model_and_renewed(catalog):
    about = {"model": "models:/m/1", "model_version": "1", "dataset_url": "/d", "dataset_digest": "d" * 64}
    for value in (0.1, 0.3):
        catalog.record_evaluation("fid/x", value, None, None, weights_sha256="a" * 64, **about)
    catalog.record_evaluation("fid/x", 1.0, 0.5, 1.5, weights_sha256="b" * 64, **{**about, "model": "/other"})
    newest, first = catalog.evaluations()
    assert (newest.model, newest.value, newest.low, newest.high) == ("/other", 1.0, 0.5, 1.5)
    assert (first.value, first.low) == (0.3, None)
    assert [row.value for row in catalog.find("fid/x")] == [1.0, 0.3]
    assert [row.value for row in catalog.find("models:/m/1")] == [0.3]
