"""What the files of docker/ and cluster/ say, and what requirements.lock says."""

import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "i2idist" / "__init__.py").read_text())[1]
GIVEN = {"I2IDIST_HOME": "/srv/i2idist", "I2IDIST_UID": "1000", "I2IDIST_GID": "1000"}
"""What docker/prepare.sh writes to the `env` file."""
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def locked():
    """Versions by package, as in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}


def files():
    """Every file of docker/ and cluster/ that isn't Python's."""
    found = [path for folder in ("docker", "cluster") for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix not in {".py", ".pyc"})


def objects(path):
    """The YAML documents of a file."""
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def interpolated(text, given=GIVEN):
    """A compose file as Compose reads it: variables replaced, by their defaults where they aren't given."""

    def value(found):
        name, kind, default = found.groups()
        assert name in given or kind == "-", f"{name} is neither given nor has it a default"
        return given.get(name, default)

    return _VARIABLE.sub(value, text).replace("$$", "$")


def compose(name="compose.yaml"):
    return yaml.safe_load(interpolated((ROOT / "docker" / name).read_text()))


def ray_starts():
    """The arguments of every `ray start` in these files, by where it stands."""
    found = {}
    for name, service in compose()["services"].items():
        if service.get("command", [])[:2] == ["ray", "start"]:
            found[f"compose {name}"] = service["command"][2:]
    for path in sorted((ROOT / "cluster" / "ray_up").glob("*.yaml")):
        for role in ("head", "worker"):
            line = objects(path)[0][f"{role}_start_ray_commands"][-1]
            found[f"{path.stem} {role}"] = shlex.split(line.split("ray start ")[1])
    text = (ROOT / "cluster" / "slurm" / "train.sbatch").read_text()
    common = shlex.split(re.search(r"common=\((.+)\)", text)[1])
    for role, line in zip(("head", "worker"), re.findall(r"ray start ((?:.|\\\n)+?) &\n", text), strict=True):
        arguments = shlex.split(line.replace("\\\n", " ").replace('"${common[@]}"', shlex.join(common)))
        # Variables stand for addresses and numbers.
        found[f"slurm {role}"] = [re.sub(r"\$\{?\w*(CPUS|port)\w*\}?", "6379", each) for each in arguments]
    return found
