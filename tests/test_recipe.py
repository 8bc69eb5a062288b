import pytest
import yaml

from i2idist.errors import ConfigError
from i2idist.recipe import Dumper, override, parse_overrides, parse_yaml, read_recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("20_000", 20000),
        ("0x1F", 31),
        ("010", 10),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, 2e1, a]", [1, 20.0, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_scalars_are_what_a_person_means(text, value):
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    ["1e-4", "010", "yes", "null", "~", "0x1F", "1_000", ".5", "", "1:30", "a: b", "ä", 1e-4, 1e300, 3, True, None],
)
def test_what_is_dumped_is_read_back_equal(value):
    found = parse_yaml(yaml.dump({"key": value}, Dumper=Dumper), "here")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"here.*line 3, column 1: the key 'a' is given twice"),
        ("train:\n  x: 1\n  x: 1", r"line 3, column 3: the key 'x' is given twice"),
        ("3: 1", "the key 3 is not text"),
        ("a: [1", r"here.*line \d"),
        ("!!python/object/apply:os.getcwd []", "line 1, column 1: the tag .*os.getcwd isn't read"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "here")


def test_overrides_are_yaml_by_dotted_key():
    values = parse_overrides(["train.total_images=2e4", "data.size=[32, 64]", "data.cache_dir=", "method.name=a=b"])
    assert values == {"train.total_images": 2e4, "data.size": [32, 64], "data.cache_dir": None, "method.name": "a=b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "'train' is no override: write KEY=VALUE"),
        (["=3"], "no override"),
        (["a=1", "a=2"], "'a' is given twice"),
    ],
)
def test_malformed_overrides_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_overrides(arguments)


def test_overriding_copies():
    raw = {"method": "segan", "train": {"total_images": 1, "batch_size": 2}}
    found = override(raw, {"train.total_images": 5, "method.lambda_mi": 2.0, "data.url": "x"})
    assert found == {
        "method": {"name": "segan", "lambda_mi": 2.0},
        "train": {"total_images": 5, "batch_size": 2},
        "data": {"url": "x"},
    }
    assert raw == {"method": "segan", "train": {"total_images": 1, "batch_size": 2}}


def test_an_override_through_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"'seed.x' can't be applied: seed is 3, not a section"):
        override({"seed": 3}, {"seed.x": 1})


def test_missing_recipes(tmp_path):
    with pytest.raises(ConfigError, match="There is no recipe named 'no_such_recipe'"):
        read_recipe("no_such_recipe")
    with pytest.raises(ConfigError, match=r"There is no recipe file .*absent.yaml"):
        read_recipe(str(tmp_path / "absent.yaml"))
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="holds no mapping"):
        read_recipe(str(tmp_path / "list.yaml"))
