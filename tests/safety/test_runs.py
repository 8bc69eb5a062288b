"""Run folders from elsewhere: what isn't what it should be is named."""

import pytest

from i2idist import storage
from i2idist.errors import I2IError, RunError
from i2idist.launch.run_folder import RunFolder


@pytest.mark.parametrize("file", ["run.json", "result.json"])
@pytest.mark.parametrize("data", [b"[" * 100_000, b"[1]", b"null", b"\xff\xfe", b"{", b'{"n": 1' + b"1" * 9000 + b"}"])
def test_records_that_are_none_are_named(file, data, tmp_path):
    storage.write_bytes(f"{tmp_path}/victim/{file}", data)
    folder = RunFolder(str(tmp_path), "victim")
    with pytest.raises(RunError, match=f"victim/{file} is damaged"):
        folder.record() if file == "run.json" else folder.result()


@pytest.mark.parametrize(
    "text",
    ["", "# no digest\n{}", "x: !!python/name:os.system", "# The resolved experiment of an i2idist run. sha256 \xff"],
)
def test_an_experiment_that_is_none_is_refused(text, tmp_path):
    storage.write_bytes(f"{tmp_path}/victim/experiment.yaml", text.encode("latin-1"))
    with pytest.raises(I2IError, match="experiment.yaml"):
        RunFolder(str(tmp_path), "victim").experiment()
