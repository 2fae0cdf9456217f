"""The rules of docs/architecture.md: import-linter's contracts, and the few rules that it cannot express."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = sorted([*(REPOSITORY / "mmgkeras").rglob("*.py"), *(REPOSITORY / "cli").rglob("*.py")])
PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """The dotted name under which a file is imported: mmgkeras/cli lies in the folder cli."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    parts = ("mmgkeras", *parts) if parts[0] == "cli" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(node: ast.AST) -> Iterator[str]:
    """What an absolute import names: its modules, and its names too, for these may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_import_contracts_hold() -> None:
    code = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache', '--no-logo'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_architecture_page_lists_the_layers_of_the_contract() -> None:
    contract = PYPROJECT["tool"]["importlinter"]["contracts"][0]
    page = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.partition("\n| layer |")[2].partition("\n\n")[0].splitlines()[2:]
    listed = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table]
    assert listed == [["cli"], *(layer.split(" : ") for layer in contract["layers"])]


def test_files_that_the_architecture_page_names_exist() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:mmgkeras|cli|tests|docs|configs)/[\w./]*)`", page))
    assert len(named) > 10
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()


def test_every_package_is_installed() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(name_of(path) for path in MODULES if path.name == "__init__.py")


def test_every_dependency_is_pinned() -> None:
    project = PYPROJECT["project"]
    extras = [name for key, names in project["optional-dependencies"].items() if key != "cuda" for name in names]
    asked = {re.split(r"[\[<>=]", name)[0] for name in [*project["dependencies"], *extras]} - {"mmgkeras"}
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert {name for name in asked if name.lower() not in pinned} == set()


def test_every_file_of_a_package_is_installed() -> None:
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = {
        name: REPOSITORY / name.replace("mmgkeras.cli", "cli").replace(".", "/") for name in setuptools["packages"]
    }
    patterns = setuptools["package-data"]
    assert patterns.keys() <= folders.keys()
    installed = {path for name, listed in patterns.items() for glob in listed for path in folders[name].glob(glob)}
    roots = [REPOSITORY / "mmgkeras", REPOSITORY / "cli"]
    files = {
        path for root in roots for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert REPOSITORY / "mmgkeras/py.typed" in installed
    assert sorted(map(str, files - installed)) == []


def test_the_library_does_not_import_the_command_line() -> None:
    users = {
        name_of(path)
        for path in MODULES
        for node in nodes(path)
        for name in imported(node)
        if f"{name}.".startswith("mmgkeras.cli.") and path.parts[len(REPOSITORY.parts)] != "cli"
    }
    assert users == set()


def annotations(path: Path) -> Iterator[str]:
    """The attributes within type annotations, as `line:column`."""
    for node in nodes(path):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield from (
                    f"{inner.lineno}:{inner.col_offset}" for inner in ast.walk(part) if hasattr(inner, "lineno")
                )


def test_tf_data_is_used_in_the_pipeline_alone() -> None:
    users = set()
    for path in MODULES:
        named_only = set(annotations(path))
        for node in nodes(path):
            is_used = isinstance(node, ast.Attribute) and f"{node.lineno}:{node.col_offset}" not in named_only
            if is_used and ast.unparse(node) == "tf.data":
                users.add(name_of(path).split(".")[1])
    assert users == {"pipeline"}


def test_no_environment_variable_is_read_below_the_command_line() -> None:
    readers = {
        name_of(path)
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert {name.split(".")[1] for name in readers} == {"cli"}


def test_the_command_line_imports_the_library_inside_functions_only() -> None:
    allowed = {"click", *sys.stdlib_module_names}
    foreign = {
        f"{path.name}: {name}"
        for path in (REPOSITORY / "cli").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for name in imported(node)
        if name.split(".")[0] not in allowed
    }
    assert foreign == set()


def test_importing_the_command_line_loads_click_and_the_standard_library_alone() -> None:
    loaded = loaded_by("import mmgkeras.cli")
    foreign = {name for name in loaded if name.split(".")[0] not in {"click", "mmgkeras", *sys.stdlib_module_names}}
    assert "mmgkeras.cli" in loaded
    assert foreign == set()
    assert {name for name in loaded if name.startswith("mmgkeras.") and not name.startswith("mmgkeras.cli")} == set()


def test_importing_the_library_loads_the_standard_library_alone() -> None:
    loaded = loaded_by("import mmgkeras as mg; dir(mg)")
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {"mmgkeras"}


def test_no_two_modules_of_the_library_share_a_name_and_each_name_says_something() -> None:
    names = [path.stem for path in MODULES if path.parts[len(REPOSITORY.parts)] == "mmgkeras"]
    counts = Counter(name for name in names if name != "__init__")
    assert {name for name, count in counts.items() if count > 1} == set()
    assert counts.keys() & {"measured", "runs", "decisions", "finish", "start", "utils", "helpers", "common"} == set()


def names_of(module: str) -> set[str]:
    """What can be imported from one of our modules, and its modules where it is a package; nothing is run."""
    path = REPOSITORY.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = {child.stem for child in path.glob("*")} if path.is_dir() else set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
    return names


@pytest.mark.parametrize("program", sorted((REPOSITORY / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_programs_of_benchmarks_import_what_is_there(program: Path) -> None:
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "mmgkeras":
            module = node.module.replace("mmgkeras.cli", "cli")
            missing = {alias.name for alias in node.names} - names_of(module)
            assert not missing, f"{program}:{node.lineno}: {node.module} has no {', '.join(missing)}"
