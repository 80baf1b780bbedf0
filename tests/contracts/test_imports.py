"""Imports run one way, and optional packages are imported in the files that are theirs alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# package → our packages that it may import
ALLOWED = {
    "pipelines": {"pipelines"},
    "debiaspl": {"debiaspl", "pipelines"},
    "bench": {"bench", "debiaspl", "pipelines"},
    "tools": {"debiaspl", "pipelines"},
}
OURS = {*ALLOWED, "tests"}
OPTIONAL = {
    "nvidia": {"pipelines/sources/dali_graph.py"},
    "ffcv": set(),  # only tests and bench: reading and writing a .beton needs numpy alone
    "faiss": {"debiaspl/evaluation/knn.py"},
    "open_clip": {"debiaspl/commands/clip_targets.py"},
    "timm": {"debiaspl/models/timm.py"},
    "safetensors": {"debiaspl/weights_file.py"},
    "onnx": {"debiaspl/using/onnx_file.py"},
    "onnxruntime": {"debiaspl/using/onnx_file.py"},
    "onnxscript": {"debiaspl/using/onnx_file.py"},
}


COMMANDS = "debiaspl/commands/"
"""What is around training: it may read labels, to choose some of them, and no run imports it."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package):
    for path in sources(package):
        ours = {name.split(".")[0] for name in imported(path)} & OURS
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def test_optional_packages_are_imported_in_their_own_files():
    for path in (p for package in ALLOWED for p in sources(package)):
        name = path.relative_to(ROOT).as_posix()
        for package in {module.split(".")[0] for module in imported(path)} & OPTIONAL.keys():
            assert name in OPTIONAL[package] or name.startswith("bench/"), f"{name} imports {package}"


def test_only_the_evaluation_reaches_true_labels():
    """tests/debiaspl/test_leak_guard.py shows that training is blind to them."""
    for path in (p for package in ALLOWED for p in sources(package)):
        name = path.relative_to(ROOT).as_posix()
        if "debiaspl.evaluation.truth" in imported(path):
            assert name.startswith("debiaspl/evaluation/"), f"{name} imports the true labels"
        if name.startswith("debiaspl/") and not name.startswith(COMMANDS):
            reads = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)]
            taken = {ast.unparse(n) for n in reads if n.attr == "labels" and "listing" in ast.unparse(n.value)}
            assert not taken, f"{name} reads {taken}"


def test_no_run_imports_a_command_that_may_read_labels():
    for path in sources("debiaspl"):
        if COMMANDS not in path.as_posix():
            assert not {name for name in imported(path) if name.startswith("debiaspl.commands")}, path


@pytest.mark.parametrize("folder", ["debiaspl/objectives", "debiaspl/models"])
def test_the_mathematics_imports_nothing_but_torch(folder):
    allowed = {"torch", "jaxtyping", "dataclasses", "functools", "typing", "collections", "debiaspl"}
    for path in sources(folder):
        own = {"timm"} if path.name == "timm.py" else set()
        assert {name.split(".")[0] for name in imported(path)} <= allowed | own, path


def test_the_pipelines_name_no_option_of_the_trainer():
    for path in sources("pipelines"):
        found = re.findall(r"\bengine\.|\bscience\.|--set\b", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names {found}"


def test_training_on_files_loads_no_optional_package():
    code = f"import sys, debiaspl.train; print([m for m in {sorted(OPTIONAL)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    # torch's own CUDA wheels live in the namespace package "nvidia"; DALI is the part that counts
    assert done.stdout.strip() in ("[]", "['nvidia']")
    code = "import sys, debiaspl.train; print('nvidia.dali' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("package", ALLOWED)
def test_every_module_says_what_it_is(package):
    for path in sources(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
