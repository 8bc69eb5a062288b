import threading

from i2idist import storage
from i2idist.tracking import journal as module
from i2idist.tracking.journal import Journal, left_behind, merged, parsed


def line(images, **values):
    return {"kind": "metrics", "images": images, "time": 0.5, "values": values}


def drain(journal):
    found = []
    while not journal.is_empty():
        lines, offset = journal.peek()
        found += lines
        journal.delivered(offset)
    return found


def test_lines_come_out_in_order_and_once(tmp_path):
    journal = Journal(str(tmp_path / "run" / "j"))
    lines = [line(n, loss=n / 3) for n in range(50)]
    for each in lines[:20]:
        journal.append(each)
    first, offset = journal.peek()
    assert parsed(journal.undelivered()) == first == lines[:20]
    journal.delivered(offset)
    assert journal.is_empty()
    for each in lines[20:]:
        journal.append(each)
    assert drain(journal) == lines[20:]
    assert journal.close() is None
    assert not (tmp_path / "run" / "j").exists()


def test_appending_and_delivering_at_once_with_lines_of_any_length(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_READ_BYTES", 500)
    monkeypatch.setattr(module, "_TRUNCATE_BYTES", 2_000)
    journal = Journal(str(tmp_path / "j"))
    lines = [line(n, text="x" * (n * 37 % 1_500)) for n in range(400)]
    thread = threading.Thread(target=lambda: [journal.append(each) for each in lines])
    thread.start()
    found = []
    while thread.is_alive() or not journal.is_empty():
        found += drain(journal)
    assert found == lines
    assert (tmp_path / "j").stat().st_size < 10_000


def test_what_is_left_lies_in_the_run_folder(tmp_path, memory_url):
    for url in (str(tmp_path / "run" / "j"), f"{memory_url}/run/j"):
        journal = Journal(url)
        for n in range(3):
            journal.append(line(n))
        lines, _ = journal.peek()
        assert journal.close() == url
        assert left_behind(url) == lines
    storage.write_bytes(url, storage.read_bytes(url) + b'{"kind": "met')
    assert left_behind(url) == lines
    assert left_behind(f"{url}-absent") == []


def test_a_run_folder_that_is_lost_is_not_written(tmp_path):
    journal = Journal(str(tmp_path / "j"))
    journal.append(line(1))
    (tmp_path / "j").write_text("another's\n")
    assert journal.close(keep=False) is None
    assert (tmp_path / "j").read_text() == "another's\n"


def test_a_checkpoint_carries_all_metrics_and_the_newest_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PICTURE_BYTES", 2_500)
    journal = Journal(str(tmp_path / "j"))
    for n in range(4):
        journal.append(line(n))
        journal.append({"kind": "image", "images": n, "time": 0.0, "key": "x", "png": "p" * 1_000})
    carried = parsed(journal.undelivered())
    assert [each["images"] for each in carried if each["kind"] == "metrics"] == [0, 1, 2, 3]
    assert [each["images"] for each in carried if each["kind"] == "image"] == [2, 3]


def test_merging_keeps_each_line_once():
    assert merged([line(1), line(2)], [line(2), line(3)]) == [line(1), line(2), line(3)]
