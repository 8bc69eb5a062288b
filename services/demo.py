"""The demo's training on the platform: data in the object store, jobs on Ray, runs and models in MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from i2idist.errors import ServiceError
from services import platform
from services.supervise import Service

RECIPE, MODEL = "segan_digits", "platform-digits"
_PROGRAM = (sys.executable, "-m", "i2idist.cli")
_DATA = f"s3://{platform.BUCKET}/data/digits"
_OUT = f"s3://{platform.BUCKET}/translations"


def run(services: Mapping[str, Service], say: Callable[[str], None], overrides: tuple[str, ...] = ()) -> str:
    """Pack, train, register, evaluate and translate, each by the command that a person would type.

    Args:
        services: the platform, which runs.
        say: told each command before it is run; what it writes goes to this process's output.
        overrides: of the training, as `key=value`.

    Returns:
        The run's name.

    Raises:
        ServiceError: a command failed.
    """
    name = f"platform-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    environment = platform.client_environment(services)
    for command in _commands(name, overrides, environment):
        say(f"i2idist {' '.join(command)}")
        done = subprocess.run([*_PROGRAM, *command], env=environment)
        if done.returncode:
            raise ServiceError(f"i2idist {' '.join(command)} ended with {done.returncode}; the platform goes on.")
    return name


def _commands(name: str, overrides: tuple[str, ...], environment: dict[str, str]) -> list[list[str]]:
    follow, model = ["--follow"], f"models:/{MODEL}@candidate"
    pack = [] if _packed(environment) else [["data", "generate", "digits", _DATA]]
    return [
        *pack,
        ["submit", "train", RECIPE, f"data.url={_DATA}", *overrides, "--run", name, *follow],
        ["register", name, MODEL],
        ["submit", "evaluate", model, _DATA, "--protocol", "accuracy", *follow],
        ["submit", "translate", model, _DATA, _OUT, "--split", "test", "--num-samples", "4", *follow],
    ]


def _packed(environment: dict[str, str]) -> bool:
    show = [*_PROGRAM, "data", "show", _DATA]
    return subprocess.run(show, env=environment, capture_output=True).returncode == os.EX_OK
