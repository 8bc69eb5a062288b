import os

import pytest

from i2idist.errors import ConfigError
from i2idist.tracking.credentials import FILE, use_credentials

NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    path.write_text("[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = hunter%2\n")
    path.chmod(0o600)
    monkeypatch.setenv(FILE, str(path))
    return path


def found():
    return tuple(os.environ.get(name) for name in NAMES)


def test_servers_get_them_and_databases_don_t(file):
    use_credentials("sqlite:///mlflow.db")
    assert found() == (None, None)
    use_credentials("http://there:5000")
    assert found() == ("me", "hunter%2")


def test_what_is_set_already_wins(file, monkeypatch):
    monkeypatch.setenv(NAMES[0], "another")
    use_credentials("http://there:5000")
    assert found() == ("another", None)


def test_a_file_that_others_can_read_is_refused_unseen(file):
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"Others can read {file}.*chmod 600") as caught:
        use_credentials("http://there:5000")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("text", ["hunter2", "[mlflow]\nhunter2", "[mlflow]\nmlflow_tracking_password = hunter2\n"])
def test_a_file_of_another_form_is_named_and_not_shown(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"names {file}, which isn't in the form") as caught:
        use_credentials("http://there:5000")
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_file_that_is_not_there_is_named(file):
    file.unlink()
    with pytest.raises(ConfigError, match=f"{FILE} names {file}, which can't be read: No such file"):
        use_credentials("http://there:5000")
