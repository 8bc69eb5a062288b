from collections import Counter

import pytest

from i2idist.data.layouts import morph, read_layout
from i2idist.errors import DataError
from tests.data.layouts.support import labels, packed, save

HEAD = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo\n"
ROW = "{id:06d},{n},8/1/1949,3/22/2004,{race},{gender},NULL,{age},,N,{photo}\n"


def write(src, faces):
    """The academic release: a table, and Album2/ID_NUMBER and gender and age.JPG; faces are (race, gender, age)."""
    src.mkdir(exist_ok=True)
    rows = []
    for number, (race, gender, age) in enumerate(faces):
        photo = f"Album2/{number:06d}_0{gender}{age}.JPG"
        save(src, photo)
        rows.append(ROW.format(id=number, n=0, race=race, gender=gender, age=age, photo=photo))
    (src / "morph_2008_nonCommercial.csv").write_text(HEAD + "".join(rows))
    return src


def test_morph(tmp_path):
    write(tmp_path / "src", [("B", "M", 54), ("W", "F", 29), ("H", "M", 30), ("A", "F", 16), ("O", "M", 40)] * 8)
    manifest = packed(tmp_path / "src", "morph", tmp_path / "d")
    assert manifest.labels == ("male", "old", "african", "european", "hispanic", "asian")
    assert sum(counts["image"] for counts in manifest.counts.values()) == 32  # race O is left out
    found = {}
    for split in manifest.splits:
        found |= labels(tmp_path / "d", manifest, split)
    assert found["000000_0M54"] == (1, 1, 1, 0, 0, 0)
    assert found["000001_0F29"] == (0, 0, 0, 1, 0, 0)
    assert found["000002_0M30"] == (1, 1, 0, 0, 1, 0)
    assert found["000003_0F16"] == (0, 0, 0, 0, 0, 1)


def by_threes(src, faces):
    """Writes a release in which three faces in a row are one person's."""
    write(src, faces)
    table = src / "morph_2008_nonCommercial.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text(rows[0] + "".join(f"{number // 3:06d}{row[6:]}" for number, row in enumerate(rows[1:])))
    return src


def test_nobody_is_in_two_splits_of_morph(tmp_path):
    src, splits = by_threes(tmp_path, [("B", "M", 20)] * 60), {}
    for sample in read_layout(str(src), "morph").samples:
        splits.setdefault(int(sample.key[:6]) // 3, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "val", "test"}


def test_morph_as_udits_biased_set(tmp_path, monkeypatch):
    monkeypatch.setattr(morph, "_TEST", 2)
    monkeypatch.setattr(morph, "_TRAIN", {True: 5, False: 1})
    write(tmp_path / "src", [("W", gender, age) for age in (20, 60) for gender in "MF" for _ in range(9)])
    manifest = packed(tmp_path / "src", "morph-gender", tmp_path / "d")
    assert (manifest.role, manifest.labels) == ("unpaired", ("female", "male"))
    assert manifest.counts == {"test": {"a": 4, "b": 4}, "train": {"a": 6, "b": 6}, "rest": {"a": 8, "b": 8}}
    for domain, age in (("a", "20"), ("b", "60")):
        found = labels(tmp_path / "d", manifest, "train", domain)
        assert sorted(found.values()) == [0, 1, 1, 1, 1, 1]
        assert all(key.endswith(("F", "M")[label] + age) for key, label in found.items())
    manifest = packed(tmp_path / "src", "morph-ethnicity", tmp_path / "e")
    assert manifest.labels == ("african", "european", "hispanic", "asian")
    assert set(labels(tmp_path / "e", manifest, "rest", "b").values()) == {1}


def test_nobody_is_in_two_splits_of_udits_biased_set(tmp_path, monkeypatch):
    """Of people with pictures as young and as old; what test and train don't need of theirs is left out."""
    monkeypatch.setattr(morph, "_TEST", 4)
    monkeypatch.setattr(morph, "_TRAIN", {True: 10, False: 4})
    ages = [(20, 25, 40), (20, 40, 50), (18, 19, 20)]
    src = by_threes(tmp_path, [("W", "FM"[n % 2], age) for n in range(60) for age in ages[n % 3]])
    splits, counts = {}, Counter()
    for sample in read_layout(str(src), "morph-gender").samples:
        splits.setdefault(int(sample.key[:6]) // 3, set()).add(sample.split)
        counts[sample.split, *sample.images, sample.label] += 1
    assert all(len(found) == 1 for found in splits.values())
    wanted = {("test", domain, label): 4 for domain in "ab" for label in (0, 1)}
    wanted |= {("train", domain, label): (4, 10)[label] for domain in "ab" for label in (0, 1)}
    assert {key: count for key, count in counts.items() if key[0] != "rest"} == wanted
    assert counts["rest", "a", 1] > 0 and counts["rest", "b", 0] > 0
    assert len(splits) == 60 and counts.total() < 180


def test_what_is_wrong_with_a_table_is_named(tmp_path):
    src = write(tmp_path, [("B", "M", 54)])
    table = src / "morph_2008_nonCommercial.csv"
    whole = table.read_text()
    table.write_text(whole.replace("54", "?", 1))
    with pytest.raises(DataError, match=r"nonCommercial\.csv, line 2: race 'B', gender 'M', age '\?'"):
        read_layout(str(src), "morph")
    table.write_text(whole.replace("race", "ethnicity"))
    with pytest.raises(DataError, match="has no columns race"):
        read_layout(str(src), "morph")
    table.write_text(whole + '"' + "x" * 200_000)
    with pytest.raises(DataError, match=r"nonCommercial\.csv is damaged, or isn't the published file: field larger"):
        read_layout(str(src), "morph")
    table.write_text(whole)
    (src / "Album2" / "000000_0M54.JPG").unlink()
    with pytest.raises(DataError, match=r"line 2: there is no .*Album2/000000_0M54\.JPG"):
        read_layout(str(src), "morph")
    table.unlink()
    with pytest.raises(DataError, match=r"should have one table morph\*\.csv .*; there is none"):
        read_layout(str(src), "morph")
