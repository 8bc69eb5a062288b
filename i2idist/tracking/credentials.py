"""A tracking server's name and password, from a file that only its reader's owner can read."""

from __future__ import annotations

import configparser
import os
import stat
from pathlib import Path

from i2idist.errors import ConfigError

FILE = "I2IDIST_MLFLOW_CREDENTIALS"
"""Names the file, which is in the form of MLflow's own ~/.mlflow/credentials."""

_NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def use_credentials(uri: str) -> None:
    """Let this process's MLflow answer a server's question for a password from `FILE`, where that is set.

    MLflow takes both from the environment, so they are put there, unless they are there. A process's own changes to
    its environment aren't in what others see of it.

    Args:
        uri: the tracking server or database; databases aren't asked by password.

    Raises:
        ConfigError: the file is missing, says nothing, or others can read it.
    """
    path = os.environ.get(FILE)
    if not path or not uri.startswith(("http://", "https://")) or any(name in os.environ for name in _NAMES):
        return
    os.environ.update(_read(Path(path)))


def _read(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"Others can read {path}, which {FILE} names and which holds a password: chmod 600 {path}"
            )
        parser.read_string(path.read_text())
        found = parser["mlflow"]
        return {name: found[name.lower()] for name in _NAMES}
    except OSError as error:
        raise ConfigError(f"{FILE} names {path}, which can't be read: {error.strerror}.") from error
    except (configparser.Error, KeyError):
        # What it says instead might be a password.
        raise ConfigError(
            f"{FILE} names {path}, which isn't in the form of ~/.mlflow/credentials: a section [mlflow] with "
            f"{' and '.join(name.lower() for name in _NAMES)}."
        ) from None
