import psutil
import pytest
from mlflow import MlflowClient

import services
from i2idist import storage
from i2idist.errors import ServiceError
from services import object_store, tracking_server
from tests.services.test_supervise import runs


def test_runs_and_artifacts_survive_a_kill_and_clients_need_the_address_alone(
    services_folder, s3_server, s3_url, tmp_path, monkeypatch
):
    environment = object_store.start(services_folder / "s3", volume_size_mb=64).environment
    folder = services_folder / "tracking"
    settings = {"artifacts": f"{s3_url}/mlflow", "environment": environment}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    service = tracking_server.start(folder, **settings)
    try:
        assert tracking_server.start(folder, **settings) == service
        client = MlflowClient(service.url)
        run = client.create_run("0").info.run_id
        client.log_metric(run, "loss", 0.5, step=1)
        client.log_text(run, "words", "a/file.txt")
        assert [name for name in storage.walk(f"{s3_url}/mlflow") if name.endswith("a/file.txt")]
        family = psutil.Process(service.pid).children(recursive=True)
        assert len(family) <= 4, "it started its runner of jobs"
        service.kill()
        assert not any(map(runs, family))
        assert tracking_server.start(folder, **settings).url == service.url
        assert client.get_run(run).data.metrics == {"loss": 0.5}
        assert client.list_artifacts(run, "a")[0].path == "a/file.txt"
    finally:
        services.stop(folder)


def test_a_password_in_the_address_is_refused_unseen(tmp_path):
    with pytest.raises(ServiceError, match="holds a password, which every user of this machine") as caught:
        tracking_server.start(tmp_path, database="postgresql+psycopg://user:hunter2@127.0.0.1:1/mlflow")
    assert "hunter2" not in str(caught.value)


def test_a_database_that_is_not_there_is_reported_with_the_log(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="(?s)The tracking server in .*The end of .*log.txt"):
        tracking_server.start(tmp_path / "server", database=f"sqlite:///{tmp_path}/file/x.db", timeout_s=40)
