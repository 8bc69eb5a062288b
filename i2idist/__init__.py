"""i2idist: train, tune, compare and serve image-to-image translation and GAN-transfer methods.

`i2idist.train(...)` trains; `i2idist.train` is also the package of the training loop, which is made callable here.
`i2idist.load(url)` loads a saved translator: see `i2idist.model`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


class _CallablePackage(ModuleType):
    """`i2idist.train` as a function: see `i2idist.launch.train`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Create or continue a run and train it to its end."""
        from i2idist import launch

        return launch.train(*arguments, **options)


class _Package(ModuleType):
    """Imports what is asked for when it is asked for, so that `import i2idist` costs nothing."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Python sets a subpackage here once it is imported."""
        if name == "train" and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """The lazy parts of the public interface."""
        if name == "train":
            return importlib.import_module("i2idist.train")
        if name == "load":
            return importlib.import_module("i2idist.model").load
        raise AttributeError(f"module 'i2idist' has no attribute '{name}'")


sys.modules[__name__].__class__ = _Package
