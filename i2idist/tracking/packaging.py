"""Our model as a model of MLflow: made from code (see `pyfunc`), with our model folder as its one artifact.

```
MLmodel, pyfunc.py, requirements.txt, ...   MLflow's; signature and input example
artifacts/model/model.json, weights-*       ours, as `i2idist.model.save` wrote them
```
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
from pathlib import Path

import mlflow.pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array
from PIL import Image

import i2idist
from i2idist import storage
from i2idist.errors import ConfigError
from i2idist.methods import load_method
from i2idist.model import FILE_NAME, ModelCard, read_card

FOLDER = "model"
"""The artifact's name: our model folder inside MLflow's."""

_CODE = Path(__file__).with_name("pyfunc.py")


def write_mlflow_model(folder: Path, model_url: str, description: Model) -> Path:
    """Write a model folder of ours as one of MLflow's.

    Args:
        folder: an empty folder, to work in.
        model_url: our model folder, at any storage URL.
        description: what MLflow shall know of it: its id, run and metadata.

    Returns:
        MLflow's model folder, below `folder`.

    Raises:
        SourceError, StorageError: there is no model at `model_url`, or it can't be read.
        ConfigError: its images fit no PNG, so it can't be served as JSON.
    """
    card, own = read_card(model_url), folder / FOLDER
    for file in (card.weights, FILE_NAME):
        storage.download(storage.join(model_url, file), own / file)
    mlflow.pyfunc.save_model(
        path=str(folder / "mlflow"),
        mlflow_model=description,
        python_model=str(_CODE),
        artifacts={FOLDER: str(own)},
        signature=signature(load_method(card.method).generates),
        input_example=(_example(card), {"num_samples": 1, "seed": 0}),
        pip_requirements=[f"i2idist=={i2idist.__version__}", f"mlflow=={importlib.metadata.version('mlflow')}"],
    )
    _forget_places(description, folder / "mlflow")
    return folder / "mlflow"


def _forget_places(description: Model, folder: Path) -> None:
    """MLflow notes where this machine had the files; only names matter to whoever loads them."""
    flavor = description.flavors["python_function"]
    flavor["model_code_path"] = _CODE.name
    flavor["artifacts"][FOLDER]["uri"] = FOLDER
    description.save(str(folder / "MLmodel"))


def package_sha256() -> str:
    """SHA-256 over the names and bytes of i2idist's own source files: which code wrote a model."""
    root, digest = Path(i2idist.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}:{len(data)};".encode() + data)
    return digest.hexdigest()


def _example(card: ModelCard) -> list[dict[str, str]]:
    """A row that the model takes; one of a generator says nothing."""
    return [{"image": ""}] if load_method(card.method).generates else [{"image": example_image(card)}]


def signature(generates: bool = False) -> ModelSignature:
    """What a served model takes and gives: a generator, which takes params alone, a column that it doesn't look at."""
    params = [
        ParamSpec("num_samples", DataType.long, 1),
        ParamSpec("seed", DataType.long, 0),
        ParamSpec("target", DataType.string, None),
        ParamSpec("style_from", DataType.string, None),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image", required=not generates)]),
        outputs=Schema([ColSpec(Array(DataType.string), "images")]),
        params=ParamSchema(params),
    )


def example_image(card: ModelCard) -> str:
    """Base64 of a PNG that the model takes: a ramp of grey levels, of the size that training saw."""
    domain = card.domains.a
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(domain.channels)
    if mode is None:
        raise ConfigError(
            f"The model takes images of {domain.channels} channels, which no PNG holds: it can't be served as JSON. "
            "Load it with i2idist.load."
        )
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((domain.width, domain.height)).convert(mode).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
