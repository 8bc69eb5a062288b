import base64
import json
import re

import pytest
from PIL import Image

from i2idist.cli import main
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.evaluate.compare import compare, comparison_table
from i2idist.evaluate.page import page, write_comparison


@pytest.fixture(scope="module")
def found(segan, rival, digits):
    choices = [choose("edge-iou", inputs=12, samples=2), choose("mean-variance", inputs=5)]
    return compare([segan, rival, segan], digits, choices, launcher="local", grid=(3, 2))


def test_models_stand_side_by_side_under_equal_names(found):
    assert list(found.labels) == ["A", "B", "C"]
    assert len(found.rows) == 2
    assert all(record is not None for records in found.rows.values() for record in records)
    first = next(iter(found.rows))
    values = [record.estimate.value for record in found.rows[first]]
    assert values[0] == values[2] != values[1]


def test_differences_are_of_the_same_inputs(found):
    edge, variance = found.rows
    _, other, same = found.differences(edge)
    a, b, _ = (record.estimate for record in found.rows[edge])
    assert other.value == pytest.approx(b.value - a.value)
    assert other.low <= other.value <= other.high
    assert other.high - other.low < (a.high - a.low) + (b.high - b.low)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert found.differences(variance) == [None, None, None]


def test_the_picture_has_a_row_an_input_and_a_column_a_code(found):
    tile, inputs, columns = 80, 3, 1 + 3 * 2  # 16 pixels, enlarged fivefold
    width, height = found.picture.size
    assert columns * tile < width < columns * tile + 100
    assert inputs * tile < height < inputs * tile + 150


def test_the_page_holds_everything_and_fetches_nothing(found, tmp_path):
    urls = write_comparison(found, str(tmp_path / "out"))
    text = page(found)
    assert (tmp_path / "out" / "comparison.html").read_text() == text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<script" not in text
    (inside,) = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert base64.b64decode(inside) == (tmp_path / "out" / "comparison.png").read_bytes()
    with Image.open(urls["png"]) as picture:
        assert picture.size == found.picture.size
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert {row["name"] for row in kept["values"]} == set(found.rows)
    assert kept["values"][0]["models"]["B"]["difference"]["value"] == found.differences(next(iter(found.rows)))[1].value
    for name in found.rows:
        assert name in text


def test_real_images_are_looked_at_once(segan, rival, digits):
    choices = [choose("frechet", inputs=10), choose("kmmd", inputs=10)]
    told = []
    both = compare([segan, rival], digits, choices, launcher="local", grid=(1, 1), say=told.append)
    alone = evaluate(rival, digits, choices, launcher="local")
    assert [record.estimate.value for record in both.evaluated[1].records] == [
        record.estimate.value for record in alone.records
    ]
    assert both.evaluated[1].records[0].estimate.counts == alone.records[0].estimate.counts
    images = [int(message.split(" on ")[1].split()[0].replace(",", "")) for message in told if "Evaluating" in message]
    assert images[1] == 10 < images[0]


def test_values_that_do_not_compare_are_not_in_one_row(segan, digits, tmp_path):
    from i2idist.model import load, save

    translator = load(segan)
    domains = translator.card.domains
    import dataclasses

    larger = dataclasses.replace(
        domains, images=tuple(dataclasses.replace(domain, height=32, width=32) for domain in domains.images)
    )
    save(str(tmp_path), translator.method, method_name="segan", domains=larger)
    found = compare([segan, str(tmp_path)], digits, [choose("edge-iou", inputs=3)], launcher="local", grid=(2, 1))
    assert len(found.rows) == 2
    assert sum(line.count("not comparable") for line in comparison_table(found)) == 2


def test_a_title_is_text_and_no_markup(found, monkeypatch):
    import dataclasses

    named = dataclasses.replace(found, labels={"A": "<script>alert(1)</script>", "B": "b", "C": "c"})
    assert "<script>" not in page(named)


def test_the_command(segan, rival, digits, tmp_path, capsys):
    arguments = ["compare", segan, rival, "--data", digits, "--protocol", "edge-iou", "--inputs", "3", "--samples", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--launcher", "local", "--offline", "--out", str(tmp_path)])
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert "edge-iou/digits-test/" in shown
    assert str(tmp_path / "comparison.html") in shown


def test_one_model_is_no_comparison(segan, digits):
    with pytest.raises(ConfigError, match="1 models"):
        compare([segan], digits, [choose("edge-iou")], launcher="local")


def test_reals_that_models_see_in_other_channels_are_looked_at_again(digits, tmp_path):
    """A folder's pictures are read as each model's target has them."""
    import dataclasses

    from PIL import Image

    from i2idist.data.manifest import load_manifest
    from i2idist.evaluate import choose, evaluate
    from i2idist.method import Domain
    from i2idist.model import save
    from tests.evaluate.toys import Config, Shift, grey

    (tmp_path / "reals").mkdir()
    for n in range(6):
        Image.fromarray(grey(99, seed=n)).save(tmp_path / "reals" / f"{n}.png")
    domains = load_manifest(digits).domains_for(None)
    models = []
    for channels in (3, 1):
        own = dataclasses.replace(domains, images=(domains.a, Domain("b", channels, 16, 16)))
        save(
            str(tmp_path / str(channels)),
            Shift(Config(channels=channels), own),
            method_name="tests.evaluate.toys:Shift",
            domains=own,
        )
        models.append(str(tmp_path / str(channels)))
    choices, how = [choose("kmmd", inputs=6)], {"reference": str(tmp_path / "reals"), "launcher": "local"}
    first = evaluate(models[0], digits, choices, **how)
    beside = evaluate(models[1], digits, choices, beside=first, **how)
    alone = evaluate(models[1], digits, choices, **how)
    assert beside.records[0].estimate.value == alone.records[0].estimate.value
    assert beside.records[0].name != first.records[0].name
