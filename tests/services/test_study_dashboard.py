import json
import urllib.request

import optuna
import pytest

import services
from i2idist.errors import ServiceError
from services import study_dashboard


def test_the_dashboard_shows_the_studies_of_a_storage(tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    study = optuna.create_study(storage=storage, study_name="tiny")
    study.optimize(lambda trial: trial.suggest_float("method.lambda_l1", 0, 1), n_trials=2)
    service = study_dashboard.start(tmp_path / "dashboard", storage)
    try:
        assert study_dashboard.start(tmp_path / "dashboard", storage) == service
        with urllib.request.urlopen(f"{service.url}/api/studies") as answer:
            found = json.load(answer)["study_summaries"]
        assert [one["study_name"] for one in found] == ["tiny"]
    finally:
        services.stop(service.folder)
    assert not service.alive


def test_a_password_in_the_storage_is_refused_unseen(tmp_path):
    with pytest.raises(ServiceError, match="holds a password") as caught:
        study_dashboard.start(tmp_path, "postgresql+psycopg://user:hunter2@127.0.0.1:1/studies")
    assert "hunter2" not in str(caught.value)
