"""The Dockerfiles, by their structure: none was ever built, since no Docker was at hand."""

import re

import pytest

from tests.cluster.support import ROOT, VERSION

FOLDER = ROOT / "docker"


def instructions(name):
    """Each instruction of a Dockerfile with its arguments, comments left out and lines joined."""
    lines = [line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def of(name, instruction):
    return [arguments for found, arguments in instructions(name) if found == instruction]


@pytest.fixture(params=["cpu.Dockerfile", "gpu.Dockerfile"])
def image(request):
    return request.param


def test_instructions_are_docker_s(image):
    known = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "ARG", "USER", "CMD"}
    assert {found for found, _ in instructions(image)} <= known
    assert instructions(image)[0][0] == "FROM"


def test_the_base_is_pinned_to_a_python_that_we_support(image):
    (base,) = of(image, "FROM")
    assert re.fullmatch(r"python:3\.1[1-9]\.\d+-slim-\w+", base)


def test_pip_installs_from_the_lock_alone(image):
    installs = [each for each in of(image, "RUN") if "pip install" in each]
    assert len(installs) == 2
    assert all("pip install -c requirements.lock " in each for each in installs)


def test_what_is_copied_is_there_and_reaches_the_builder(image):
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for each in of(image, "COPY") for source in each.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_it_runs_as_nobody_special(image):
    names = [found for found, _ in instructions(image)]
    assert of(image, "USER") == ["1000:1000"]
    assert "RUN" not in names[names.index("USER") :]


def test_no_secret_is_built_in(image):
    said = " ".join([*of(image, "ARG"), *of(image, "ENV")])
    assert not re.search(r"(?i)token|password|secret|key", said)


def test_health_checks_and_ray_up_find_their_programs(image):
    (packages,) = (each for each in of(image, "RUN") if "apt-get" in each)
    assert {"g++", "openssh-client", "rsync", "wget"} <= set(packages.split())


def test_the_images_differ_in_torch_alone():
    cpu, gpu = (set(instructions(name)) for name in ("cpu.Dockerfile", "gpu.Dockerfile"))
    differing = {f"{name} {arguments.split('=')[0]}" for name, arguments in cpu ^ gpu}
    assert differing == {
        "ARG TORCH_INDEX",
        'RUN python -m pip install -c requirements.lock --no-deps --index-url "$TORCH_INDEX" torch torchvision',
        "RUN python -m pip install -c requirements.lock torch torchvision",
        "ENV NVIDIA_VISIBLE_DEVICES",
    }


def test_build_commands_in_comments_name_the_version(image):
    kind = image.split(".")[0]
    assert f"-f docker/{image} " in (FOLDER / image).read_text()
    assert f"-t i2idist:{VERSION}-{kind} ." in (FOLDER / image).read_text()


def test_no_python_is_here():
    assert not list(FOLDER.rglob("*.py")), "a package named docker would shadow Docker's SDK"
