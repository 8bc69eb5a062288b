import json
import logging

import fsspec
import pytest

from i2idist import storage
from i2idist.errors import LeaseError
from i2idist.launch import journal
from i2idist.launch.journal import LineFile, LogHandler, keep_until


@pytest.fixture(params=["local", "memory"])
def url(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "run" / "metrics.jsonl")
    else:
        yield "memory://journal/metrics.jsonl"
        fsspec.filesystem("memory").rm("journal", recursive=True)


def read(url):
    return storage.read_bytes(url).decode().splitlines()


def test_lines_go_on_where_they_ended(url):
    for numbers in ((0, 1), (2,)):
        file = LineFile(url)
        for number in numbers:
            file.append({"images": number})
        file.close()
    assert read(url) == ['{"images": 0}', '{"images": 1}', '{"images": 2}']


def test_events_past_a_checkpoint_and_a_torn_line_are_dropped(url):
    whole = "".join(f'{{"images": {n}}}\n' for n in (4, 8, 8, 12))
    storage.write_bytes(url, f'{whole}{{"ima'.encode())
    file = LineFile(url)
    keep_until(file, 8)
    file.append({"images": 12, "new": True})
    file.close()
    assert [json.loads(line) for line in read(url)] == [
        {"images": 4},
        {"images": 8},
        {"images": 8},
        {"images": 12, "new": True},
    ]


def test_remote_lines_are_uploaded_now_and_then(monkeypatch):
    monkeypatch.setattr(journal, "_SYNC_S", 0.05)
    file = LineFile("memory://journal/live.jsonl")
    file.append("one")
    deadline = 100
    while not storage.exists("memory://journal/live.jsonl") and deadline:
        file._closed.wait(0.05)
        deadline -= 1
    assert read("memory://journal/live.jsonl") == ["one"]
    file.close()


def test_a_file_that_is_anothers_now_is_not_overwritten():
    url, lost = "memory://journal/lost.jsonl", []

    def before_upload():
        if lost:
            raise LeaseError("lost")

    file = LineFile(url, before_upload)
    file.append("mine")
    file.sync()
    lost.append(True)
    storage.write_bytes(url, b"theirs\n")
    file.append("mine")
    for write in (file.sync, file.close):
        with pytest.raises(LeaseError):
            write()
    assert read(url) == ["theirs"]


def test_log_records_become_lines(tmp_path):
    file = LineFile(str(tmp_path / "log.txt"))
    logger = logging.getLogger("i2idist.test_journal")
    handler = LogHandler(file)
    logger.addHandler(handler)
    logger.warning("storage refused %s", "x")
    logger.removeHandler(handler)
    file.close()
    assert read(str(tmp_path / "log.txt"))[0].endswith("WARNING i2idist.test_journal: storage refused x")


def test_log_records_become_json_with_run_job_and_rank(tmp_path, monkeypatch):
    monkeypatch.setenv("I2IDIST_LOGS", "json")
    file = LineFile(str(tmp_path / "log.txt"))
    logger = logging.getLogger("i2idist.test_journal")
    handler = LogHandler(file, {"run": "x", "job": "train-x-1", "rank": 1})
    logger.addHandler(handler)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("storage refused %s", "x")
    logger.removeHandler(handler)
    file.close()
    (line,) = map(json.loads, read(str(tmp_path / "log.txt")))
    assert (line["run"], line["job"], line["rank"]) == ("x", "train-x-1", 1)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", logger.name, "storage refused x")
    assert line["traceback"].endswith("ValueError: two\nlines") and line["time"] > 1.7e9
