"""A model registered with a real tracking server, and answered by `mlflow models serve`."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from i2idist.conformance import Case
from i2idist.methods import METHODS
from i2idist.model import load, save
from i2idist.payload import sample_images, translate_images
from i2idist.tracking.registry import promote, register, resolve
from services import tracking_server
from tests.styled import save_tiny
from tests.test_payload import claiming, encoded

CLONE = Path(__file__).parents[2]
READY_S = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("model"))
    save_tiny(url)
    return url


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    service = tracking_server.start(tmp_path_factory.mktemp("mlflow"))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def champion(tracking, model):
    assert register(model, "digits", uri=tracking.url) == "1"
    assert promote("digits", uri=tracking.url) == "1"
    return "models:/digits@champion"


@contextmanager
def served(champion, tracking, log):
    """`mlflow models serve` of a registered model: the URL that answers requests."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", champion, "--env-manager", "local", "-h", "127.0.0.1"]
    paths = {"PYTHONPATH": str(CLONE), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, *command, "-p", str(port), "-w", "1"],
            env={**tracking.client_environment(), **paths, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def invocations(tracking, champion, tmp_path_factory):
    """The URL that answers requests to the translator."""
    with served(champion, tracking, tmp_path_factory.mktemp("serve") / "log.txt") as url:
        yield url


def _wait(url, server, log):
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"The model server didn't answer:\n{log.read_text()[-3000:]}")


def ask(url, body):
    """The status, and the parsed answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_model_comes_back_from_the_server_as_it_went(champion, model, tracking, tmp_path):
    found = resolve(champion, uri=tracking.url, cache=tmp_path)
    assert found.uri == "models:/digits/1"
    for path in Path(model).iterdir():
        assert Path(found.folder_url, path.name).read_bytes() == path.read_bytes()


def test_the_server_answers_with_base64_png(invocations, model):
    images = [encoded(level=level) for level in (0, 200)]
    rows = [{"image": image} for image in images]
    status, answer = ask(invocations, {"dataframe_records": rows, "params": {"num_samples": 2, "seed": 3}})
    assert status == 200
    found = [row["images"] for row in answer["predictions"]]
    assert [[base64.b64decode(text)[:4] for text in each] for each in found] == [[b"\x89PNG"] * 2] * 2
    assert found == translate_images(load(model), images, num_samples=2, seed=3)


@pytest.mark.parametrize(
    "body",
    [{"inputs": [{"image": encoded()}]}, {"inputs": {"image": [encoded()]}}, {"instances": [{"image": encoded()}]}]
    + [{"dataframe_split": {"columns": ["image"], "data": [[encoded()]]}}],
    ids=["inputs", "columns", "instances", "split"],
)
def test_every_form_of_request_that_mlflow_knows_is_answered_alike(invocations, model, body):
    assert ask(invocations, body) == (200, {"predictions": [{"images": translate_images(load(model), [encoded()])[0]}]})


@pytest.mark.parametrize(
    ("image", "params", "message"),
    [
        ("%%%", {}, "Image 0 is not base64"),
        (base64.b64encode(b"text").decode(), {}, "Image 0 is no PNG or JPEG image"),
        (claiming(3000, 3000), {}, "3000x3000 pixels"),
        (encoded("RGB"), {}, "has 3 channels, and this model takes 1"),
        (encoded(size=(17, 17)), {}, "17x17"),
        (encoded(), {"num_samples": 0}, "num_samples is 0"),
        (encoded(), {"num_samples": 10**9}, "a request may ask for"),
        (encoded(), {"num_samples": "many"}, "num_samples"),
        (encoded(), {"target": "c"}, "'c'"),
        (encoded(), {"style_from": encoded("RGB")}, "segan takes no style"),
    ],
    ids=["base64", "text", "large", "channels", "size", "none", "too many", "word", "target", "style"],
)
def test_what_can_not_be_translated_gets_400_and_the_reason(invocations, image, params, message):
    status, answer = ask(invocations, {"dataframe_records": [{"image": image}], "params": params})
    assert status == 400
    assert message in answer["message"]
    assert "Traceback" not in json.dumps(answer)


@pytest.mark.parametrize("body", [b"{", {"images": [encoded()]}, {"dataframe_records": [{"picture": encoded()}]}])
def test_other_requests_get_400(invocations, body):
    assert ask(invocations, body)[0] == 400


def test_a_registered_generator_answers_with_images_of_codes_alone(tracking, tmp_path):
    case = Case("acgan", "first", METHODS["acgan"].tiny()["bnorm"])
    folder = str(tmp_path / "model")
    save(folder, case.build(), method_name="acgan", domains=case.domains)
    register(folder, "objects", uri=tracking.url)
    promote("objects", uri=tracking.url)
    label = load(folder).targets[-1]
    with served("models:/objects@champion", tracking, tmp_path / "log.txt") as url:
        for body in ({"inputs": []}, {"dataframe_records": [{}]}):
            status, answer = ask(url, {**body, "params": {"num_samples": 3, "seed": 5, "target": label}})
            images = sample_images(load(folder), num_samples=3, seed=5, target=label)
            assert (status, answer) == (200, {"predictions": [{"images": images}]})
        status, answer = ask(url, {"inputs": [], "params": {"target": "none of them"}})
        assert status == 400 and "none of them" in answer["message"]


def test_it_still_answers_after_all_that(invocations):
    assert ask(invocations, {"dataframe_records": [{"image": encoded()}]})[0] == 200
