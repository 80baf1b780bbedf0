"""The shape of the tree: rooms and their sizes, imports within a package, docstrings, what git ignores."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("debiaspl", "pipelines", "bench", "tools")
LONGEST_FILE, LONGEST_FUNCTION = 250, 60
MOST_ON_THE_LANDING = {"pipelines": 9, "bench": 11}
# A room of pipelines → what of pipelines it may import, besides itself and the landing.
ROOMS = {
    "sources": {"beton", "augment", "samples"},
    "beton": {"augment", "samples"},
    "augment": {"samples"},
    "samples": set[str](),
}
LANDING = {"batch", "order", "views", "keyed_random", "files", "names", "console", "errors"}
"""What every room of pipelines may import; the front door stands above the rooms."""
UPWARDS = {"batch"}
"""Files of the landing that the files below every room must not import."""
INHERITED = {"forward"}
"""Methods of torch's own protocol, which need no docstring of their own."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def files(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    """The module's full name; a package's own is that of its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in files(*PACKAGES)}


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, a name's module where a name is imported."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else str(node.module) for name in names)
    return (found & MODULES.keys()) - {module_of(path)}


def room(module: str) -> str:
    """The folder or file below the package: ``pipelines.beton.reader`` → ``beton``."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_import_downwards_only(name):
    allowed = {name, *ROOMS[name], *LANDING}
    for path in files(f"pipelines/{name}"):
        wrong = {module for module in imported(path) if room(module) not in allowed}
        assert not wrong, f"{module_of(path)} imports {wrong}"


def test_what_all_rooms_stand_on_imports_none_of_them():
    for name in LANDING:
        wrong = {module for module in imported(ROOT / f"pipelines/{name}.py") if room(module) not in LANDING - UPWARDS}
        assert not wrong, f"pipelines.{name} imports {wrong}"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of a circle in the graph; empty if it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_a_circle_is_found():
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_modules_import_each_other_in_a_circle():
    # A package's own __init__ is a front door: whoever imports a file within it runs it first.
    doors = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    graph = {module: imported(path) - doors for module, path in MODULES.items() if module not in doors}
    assert circle(graph) == []


@pytest.mark.parametrize("package", MOST_ON_THE_LANDING)
def test_landings_are_not_crowded(package):
    found = [path.name for path in (ROOT / package).glob("*.py")]
    assert len(found) <= MOST_ON_THE_LANDING[package], sorted(found)


def test_no_file_is_long():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_FILE} == {}


def definitions(node: ast.AST, name: str, within: str = "module") -> Iterator[tuple[str, Definition, str]]:
    """(full name, definition, "module" or "class" or "function") of everything that is defined below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield f"{name}.{child.name}", child, within
            inner = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from definitions(child, f"{name}.{child.name}", inner)
        else:
            yield from definitions(child, name, within)


def all_definitions() -> Iterator[tuple[str, Definition, str]]:
    for module, path in MODULES.items():
        yield from definitions(ast.parse(path.read_text(encoding="utf-8")), module)


def test_no_function_is_long():
    lengths = {
        name: (node.end_lineno or node.lineno) - node.lineno + 1
        for name, node, _ in all_definitions()
        if not isinstance(node, ast.ClassDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def documented_protocol_methods() -> set[str]:
    """Names of the methods that a Protocol of ours documents for all who follow it."""
    protocols = [
        node
        for _, node, _ in all_definitions()
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
    ]
    methods = [child for node in protocols for child in node.body if isinstance(child, ast.FunctionDef)]
    return {method.name for method in methods if ast.get_docstring(method)}


def undocumented() -> list[str]:
    """Public classes, functions and methods without a docstring, but for those that a protocol documents."""
    inherited = INHERITED | documented_protocol_methods()
    return [
        name
        for name, node, within in all_definitions()
        if within != "function"
        and not any(part.startswith("_") for part in name.split("."))
        and not (within == "class" and node.name in inherited)
        and not ast.get_docstring(node)
    ]


def test_everything_public_has_a_docstring():
    assert undocumented() == []


@pytest.mark.parametrize("folder", ["build", "dataset", "runs"])
def test_only_the_top_folder_of_such_a_name_is_ignored(folder):
    def ignored(path: str) -> bool:
        command = ["git", "check-ignore", "--quiet", "--no-index", path]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    assert ignored(f"{folder}/anything")
    assert not ignored(f"debiaspl/{folder}/anything.py")
    assert not ignored(f"pipelines/{folder}/anything.py")


def test_test_modules_import_no_test_module():
    """Helpers live in tests/support, so that no test runs for another's sake."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            wrong = [n for n in names if n.split(".")[-1].startswith("test_") or n.split(".")[-1] == "conftest"]
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_shapes_are_checked_wherever_they_are_annotated():
    """The packages that pyproject.toml hands to jaxtyping cover each module that writes shapes."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    (checked,) = [word.partition("=")[2] for word in options.split() if word.startswith("--jaxtyping-packages=")]
    packages = tuple(checked.split(",")[:-1])  # the last one is the checker
    annotated = [name for name, path in MODULES.items() if "from jaxtyping import" in path.read_text(encoding="utf-8")]
    assert len(annotated) > 5
    for name in annotated:
        assert any(f"{name}.".startswith(f"{package}.") for package in packages), f"{name} is not checked"
