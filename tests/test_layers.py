"""Imports point down only, and the command line is light: the layer order, proved by the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = (
    {"cli"},
    {"report"},
    {"crossval"},
    {"training", "inference"},
    {"savedmodel"},
    {"pipeline"},
    {"study"},
    {"models"},
    {"evaluation", "overlay"},
    {"patches", "images", "sources"},
    {"tables"},
    {"config", "files", "progress"},
    {"schema", "errors"},
)
"""From the top down. A module may import its own layer's and every lower one."""

MODULES = sorted([*(REPOSITORY / "mmgkeras").rglob("*.py"), *(REPOSITORY / "cli").rglob("*.py")])


def name_of(path: Path) -> str:
    """The dotted name under which a file is imported: mmgkeras/cli lies in the folder cli."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    parts = ("mmgkeras", *parts) if parts[0] == "cli" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    """The number of the layer, 0 at the top, of a module of ours; None of the bare package, which holds the version."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    found = [number for number, names in enumerate(LAYERS) if parts[1] in names]
    assert found, f"{module} is in no layer of the list"
    return found[0]


def imported_modules(tree: ast.Module, *, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, local ones too; `from package import name` gives both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}" if base == "mmgkeras" else base


def parsed(path: Path) -> tuple[ast.Module, str]:
    """The syntax tree of a file and the package in which its relative imports start."""
    module = name_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return ast.parse(path.read_text(encoding="utf-8")), package


def ours(path: Path) -> Iterator[tuple[int, str]]:
    tree, package = parsed(path)
    return ((line, name) for line, name in imported_modules(tree, package=package) if name.split(".")[0] == "mmgkeras")


def roots(path: Path) -> set[str]:
    tree, package = parsed(path)
    return {name.split(".")[0] for _, name in imported_modules(tree, package=package)}


def test_imports_are_found_wherever_and_however_they_are_written() -> None:
    source = """
import mmgkeras.training.fit
from mmgkeras import images, __version__
from ..tables import read_images
from . import store
def later():
    from .shards import promote
"""
    assert [name for _, name in imported_modules(ast.parse(source), package="mmgkeras.patches")] == [
        "mmgkeras.training.fit",
        "mmgkeras.images",
        "mmgkeras.__version__",
        "mmgkeras.tables",
        "mmgkeras.patches",
        "mmgkeras.patches.shards",
    ]
    assert layer_of("mmgkeras.patches.store") == layer_of("mmgkeras.images")
    assert layer_of("mmgkeras.cli.fit") == 0


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down_only(path: Path) -> None:
    own = layer_of(name_of(path))
    if own is None:
        assert list(ours(path)) == []
        return
    upward = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}"
        for line, name in ours(path)
        if name != "mmgkeras.__version__" and (other := layer_of(name)) is not None and other < own
    ]
    assert upward == []


def test_every_package_is_installed() -> None:
    import tomllib

    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(name_of(path) for path in MODULES if path.name == "__init__.py")


def folder_of(layer: str) -> list[Path]:
    return [path for path in MODULES if f"mmgkeras.{layer}" in (name_of(path), ".".join(name_of(path).split(".")[:2]))]


def test_models_are_keras_alone() -> None:
    assert [name_of(path) for path in folder_of("models") if "tensorflow" in roots(path)] == []


@pytest.mark.parametrize(
    "layer", ["evaluation", "overlay", "patches", "images", "sources", "tables", "config", "files", "schema", "errors"]
)
def test_what_is_below_the_models_needs_neither_tensorflow_nor_keras(layer: str) -> None:
    assert [name_of(path) for path in folder_of(layer) if roots(path) & {"tensorflow", "keras"}] == []


def annotations(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node within a type annotation."""
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield from ast.walk(part)


def test_tf_data_is_used_in_the_pipeline_alone() -> None:
    users = set()
    for path in MODULES:
        tree, _ = parsed(path)
        named_only = set(annotations(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.data" and node not in named_only:
                users.add(name_of(path).split(".")[1])
    assert users <= {"pipeline"}


def test_no_environment_variable_is_read_below_the_command_line() -> None:
    readers = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(parsed(path)[0])
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert {name for name in readers if not name.startswith("mmgkeras.cli")} == set()


@pytest.mark.parametrize("path", folder_of("cli"), ids=name_of)
def test_the_command_line_imports_the_library_inside_functions_only(path: Path) -> None:
    tree, package = parsed(path)
    top = ast.Module(
        body=[node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    loaded = {name.split(".")[0] for _, name in imported_modules(top, package=package) if "mmgkeras.cli" not in name}
    assert loaded <= {"click", *sys.stdlib_module_names}


def test_importing_the_command_line_loads_click_and_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import mmgkeras.cli; print(*sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    foreign = {name for name in loaded if name.split(".")[0] not in {"click", "mmgkeras", *sys.stdlib_module_names}}
    library = {name for name in loaded if name.startswith("mmgkeras.") and not name.startswith("mmgkeras.cli")}
    assert "mmgkeras.cli" in loaded
    assert foreign == set()
    assert library == set()
