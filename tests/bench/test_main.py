"""``python -m bench``: its subcommands, and that --help needs nothing heavy."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.__main__ import SUBCOMMANDS, main

LIGHT = {"bench.arguments", "pipelines", "pipelines.errors"}
"""What a subcommand's module may import before it runs, besides the standard library."""
WITHOUT_REPORT = {"compare"}


def imported_at_once(module: str) -> set[str]:
    """The modules that a module imports as soon as it is imported itself."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    found = set[str]()
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}


@pytest.mark.parametrize("module", ["bench.arguments", *(module for module, _ in SUBCOMMANDS.values())])
def test_options_are_known_without_importing_what_is_measured(module: str) -> None:
    assert imported_at_once(module) <= LIGHT


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_shows_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert SUBCOMMANDS[name][1].split(",")[0] in shown
    assert ("--out FOLDER" in shown) == (name not in WITHOUT_REPORT)


def test_without_arguments_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in SUBCOMMANDS)
