import pytest

from i2idist.errors import ConfigError
from i2idist.tracking.settings import Tracking, resolve_uri, shown


def test_a_uri_comes_from_the_recipe_the_environment_or_lies_beside_local_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = str(tmp_path / "runs")
    assert resolve_uri(Tracking(), root) == f"sqlite:///{root}/mlflow.db"
    with pytest.raises(ConfigError, match="Runs in s3://team/runs need an MLflow server"):
        resolve_uri(Tracking(), "s3://team/runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000/")
    assert resolve_uri(Tracking(), "s3://team/runs") == "http://there:5000"
    assert resolve_uri(Tracking(uri="http://here"), root) == "http://here"
    assert resolve_uri(Tracking(uri="http://here", offline=True), root) is None


def test_passwords_stay_out_of_recipes_and_records():
    with pytest.raises(ConfigError, match="tracking.uri holds a password"):
        Tracking(uri="http://me:secret@there")
    assert shown("postgresql://me:secret@there/db") == "postgresql://me:***@there/db"


@pytest.mark.parametrize("values", [{"experiment": " "}, {"wait_s": -1.0}, {"wait_s": float("nan")}])
def test_settings_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError, match=f"tracking.{next(iter(values))}"):
        Tracking(**values)


def test_the_path_of_a_database_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(Tracking(uri="sqlite:///mlflow.db"), "runs") == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////there/mlflow.db")
    assert resolve_uri(Tracking(), "s3://team/runs") == "sqlite:////there/mlflow.db"
