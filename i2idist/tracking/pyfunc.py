"""The model that MLflow serves: this file goes into each registered model as it is (MLflow's "models from code").

Beside it lie the weights and `model.json`; nothing is pickled. It needs i2idist where it is served, and uses only
`i2idist.model.load`, `i2idist.payload.translate_images`, `i2idist.payload.sample_images` and `i2idist.errors.I2IError`:
later versions must keep those.
"""

from __future__ import annotations

from typing import Any

import mlflow.models
import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from i2idist.errors import I2IError
from i2idist.model import load
from i2idist.payload import sample_images, translate_images


class ServedTranslator(PythonModel):
    """Translates images given as base64 of PNG or JPEG files in a column `image`; a generator makes some of nothing."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights that lie beside this file."""
        self._translator = load(context.artifacts["model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, list[str]]]:
        """Translate a data frame's column `image`; a generator looks at `params` alone.

        Returns:
            For each image `images`, a list of its translations as base64 of PNG files; of a generator, one such list.

        Raises:
            MlflowException: images or params that can't be used; the server answers 400 with the reason.
        """
        given = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            if self._translator.method.generates:
                return [{"images": sample_images(self._translator, **given)}]
            images = translate_images(self._translator, list(model_input["image"]), **given)
        except I2IError as error:
            raise MlflowException(str(error), error_code=BAD_REQUEST) from error
        return [{"images": each} for each in images]


mlflow.models.set_model(ServedTranslator())
