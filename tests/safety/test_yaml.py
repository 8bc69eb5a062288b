"""YAML from elsewhere: recipes, overrides, the experiments in run folders."""

import string
import time
from pathlib import Path

import pytest

from i2idist.cli import main
from i2idist.errors import ConfigError
from i2idist.experiment import from_yaml
from i2idist.recipe import LARGEST, parse_overrides, parse_yaml, read_recipe

LETTERS = string.ascii_lowercase
LAUGHS = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{b}: &{b} {{p: *{a}, q: *{a}}}\n" for a, b in zip(LETTERS, LETTERS[1:], strict=False)
)

HOSTILE = {
    "a call": ("x: !!python/object/apply:os.system ['touch broken-in']", "tag .*os.system isn't read"),
    "a call in a list": ("- !!python/object/new:type [x]", "line 1, column 3: the tag"),
    "a name": ("!!python/name:os.system", "isn't read"),
    "a module": ("!!python/module:antigravity", "isn't read"),
    "bytes": ("x: !!binary aaaa", "isn't read"),
    "a set": ("x: !!set {b}", "isn't read"),
    "a tag on a number": ("x: !!int 'abc'", "isn't read"),
    "a tag of one's own": ("x: !mine 1", "isn't read"),
    "a billion laughs": (LAUGHS, "line 2, column 11: aliases aren't read"),
    "a value that holds itself": ("a: &a [*a]", "aliases aren't read"),
    "brackets": ("[" * 1500, "can't be read"),
    "braces": ("{a: " * 3000 + "}" * 3000, "can't be read"),
    "a number without end": ("x: " + "9" * 10_000, "a number of over 64 digits"),
    "a hexadecimal one": ("x: 0x" + "f" * 10_000, "a number of over 64 digits"),
    "a control character": ("a: \x1b]0;title", "special characters"),
    "a length": ("a: " + "x" * LARGEST, "characters long"),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_at_once_wherever_it_comes_from(what, capsys):
    text, message = HOSTILE[what]
    Path("hostile.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=f"(?s)hostile.yaml.*{message}"):
        read_recipe("hostile.yaml")
    with pytest.raises(ConfigError, match=f"(?s)run/experiment.yaml.*{message}"):
        from_yaml(text, "run/experiment.yaml")
    if "\n" not in text:
        with pytest.raises(ConfigError, match=f"(?s){message}"):
            parse_overrides([f"train={text}"])
    with pytest.raises(SystemExit) as stop:
        main(["train", "hostile.yaml", "--run", "victim"])
    assert stop.value.code == ConfigError.exit_code
    assert "Traceback" not in capsys.readouterr().err
    assert time.monotonic() - began < 20
    assert [path.name for path in Path().iterdir()] == ["hostile.yaml"]


@pytest.mark.parametrize("data", [b"a: \xff\xfe", "a: 1".encode("utf-16"), b"\x80"])
def test_what_is_no_utf_8_is_named(data):
    Path("other.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match="other.yaml is no UTF-8 text"):
        read_recipe("other.yaml")


def test_merge_keys_merge_nothing():
    assert parse_yaml("a: {<<: {b: 1}}", "here") == {"a": {"<<": {"b": 1}}}
