"""Imports run downwards only, and each heavy library is known to few modules."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "i2idist"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

HOMES = {
    "ray": tuple(
        f"i2idist.launch.{name}" for name in ("cluster", "worker_group", "actors", "head", "crew", "leaving", "meters")
    ),
    "fsspec": ("i2idist.storage",),
    "s3fs": ("i2idist.storage",),
    "mlflow": ("i2idist.tracking",),
    "optuna": ("i2idist.tuning",),
    "plotly": (),
    "sqlalchemy": ("i2idist.catalog",),
    "alembic": ("i2idist.catalog",),
    "typer": ("i2idist.cli",),
    "lpips": ("i2idist.metrics.imagenet",),
    "jobs": (),
    "services": (),
    "cluster": (),
    "tests": (),
}
"""Which modules, with what is below them, may import a library or folder."""

CONTRACT = ("i2idist.method", "i2idist.errors", "i2idist.randomness", "i2idist.data.batches")
ALLOWED = {
    "i2idist.losses": ("i2idist.losses", *CONTRACT),
    "i2idist.nn": ("i2idist.nn", *CONTRACT),
    "i2idist.methods": ("i2idist.methods", "i2idist.nn", "i2idist.losses", *CONTRACT),
    "i2idist.method": ("i2idist.errors", "i2idist.randomness", "i2idist.data.batches"),
    "i2idist.train": ("i2idist.train", "i2idist.nn", "i2idist.storage", *CONTRACT),
    "i2idist.data": ("i2idist.data", "i2idist.storage", *CONTRACT),
    "i2idist.metrics": ("i2idist.metrics", "i2idist.weights", "i2idist.nn", *CONTRACT),
    "i2idist.weights": ("i2idist.storage", "i2idist.errors"),
    "i2idist.storage": ("i2idist.errors", "i2idist.storage_errors", "i2idist.storage_local"),
    "i2idist.storage_errors": ("i2idist.errors",),
    "i2idist.storage_local": (),
    "i2idist.errors": (),
}
"""What a part may import of i2idist itself. Parts that aren't listed are only held to HIGHER."""

TORCH_ALONE = ("i2idist.methods", "i2idist.nn", "i2idist.losses", "i2idist.method", "i2idist.randomness")
HIGHER = {
    "i2idist.cli": (),
    "i2idist.tuning": (),
    "i2idist.launch": ("i2idist.cli", "i2idist.demo", "i2idist.translate", "i2idist.evaluate", "i2idist.tuning"),
}
"""Parts that nobody below them imports, and who else may."""


def imports(path):
    """The modules that a file imports, at its head or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (found for name in node.names for found in _named(node.module, name.name))


def _named(module, name):
    """`from a import b` imports a.b where that is a module, else a."""
    return [f"{module}.{name}"] if f"{module}.{name}" in MODULES else [module]


def within(module, parts):
    return any(module == part or module.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_where_it_is_at_home(library):
    users = [m for m, path in MODULES.items() if any(within(found, [library]) for found in imports(path))]
    assert [user for user in users if not within(user, HOMES[library])] == []


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_is_below_it(part):
    wrong = [
        f"{module} imports {found}"
        for module, path in MODULES.items()
        if within(module, [part])
        for found in imports(path)
        if within(found, ["i2idist"]) and not within(found, ALLOWED[part])
    ]
    assert wrong == []


def test_methods_losses_and_networks_need_torch_alone():
    import sys

    known = {*sys.stdlib_module_names, "torch", "i2idist"}
    wrong = [
        f"{module} imports {found}"
        for module, path in MODULES.items()
        if within(module, TORCH_ALONE)
        for found in imports(path)
        if found.split(".")[0] not in known
    ]
    assert wrong == []


@pytest.mark.parametrize("part", HIGHER)
def test_nobody_below_imports_what_is_above(part):
    wrong = [
        module
        for module, path in MODULES.items()
        if not within(module, [part, "i2idist.cli", *HIGHER[part]]) and module != "i2idist"
        if any(within(found, [part]) for found in imports(path))
    ]
    assert wrong == []


def test_no_circle():
    """Counting only what is imported at the head of modules: functions import late to start fast."""
    graph = {module: set(_head(module)) for module in MODULES}
    order = []
    while graph:
        free = [module for module, needs in graph.items() if not needs & graph.keys()]
        assert free, f"these import each other in a circle: {sorted(graph)}"
        order += free
        for module in free:
            del graph[module]


def _head(module):
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name != module)
        elif isinstance(node, ast.ImportFrom):
            yield from (found for name in node.names for found in _named(node.module, name.name) if found != module)
