import json
import subprocess
import sys

import pytest

import i2idist
from i2idist.cli import COMMANDS, main
from i2idist.methods import METHODS


def run(capsys, *arguments):
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return captured.out, captured.err, code


def test_help_names_every_command_and_imports_none_of_the_heavy_parts():
    code = (
        "import sys\nfrom i2idist.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'ray', 'fsspec', 'pydantic', 'numpy', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    out, _, code = run(capsys, name, "--help")
    assert code == 0
    assert f"i2idist {name}" in out


def test_an_unknown_command_names_the_nearest(capsys):
    _, err, code = run(capsys, "trian")
    assert code == 2
    assert "'train'" in err


def test_version(capsys):
    assert run(capsys, "--version") == (f"{i2idist.__version__}\n", "", 0)


def test_methods_lists_all_with_options_and_defaults(capsys):
    out, _, code = run(capsys, "methods", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)["methods"]}
    assert code == 0
    assert list(listed) == list(METHODS)
    assert listed["segan"]["data"] == ["paired", "unpaired"]
    assert {"name": "lambda_cycle", "default": 10.0} in listed["cyclegan"]["options"]
    out, _, _ = run(capsys, "methods", "cyclegan")
    assert "arXiv:1703.10593" in out
    assert "method.lambda_cycle = 10.0" in out
    _, err, code = run(capsys, "methods", "cyclgan")
    assert code == 2
    assert "Did you mean 'cyclegan'" in err


def test_the_package_trains_as_a_function_and_holds_the_loop():
    code = (
        "import i2idist\nassert callable(i2idist.train)\n"
        "import i2idist.train.settings as settings\nassert settings.Training\n"
        "from i2idist.train.loop import fit\nassert callable(i2idist.train) and i2idist.train.loop.fit is fit"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        i2idist.trian  # noqa: B018
