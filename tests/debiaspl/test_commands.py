"""The command ``debiaspl``: each name leads to a module, --help waits for nothing heavy, a shell completes the line."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from debiaspl import __version__, train
from debiaspl.__main__ import COMMANDS, main
from debiaspl.config_file import write_config
from debiaspl.overrides import override
from debiaspl.recipes import find

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numba", "torchvision", "matplotlib", "rich", "sklearn", "scipy", "pydantic", "jinja2"}


def python(*words: str, **environment: str) -> subprocess.CompletedProcess:
    command, env = [sys.executable, *words], os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_name_leads_to_a_module_whose_usage_says_it(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert re.match(rf"usage: (python -m )?debiaspl {name} ", capsys.readouterr().out)


def test_no_help_waits_for_anything_heavy():
    code = "import sys\nfrom importlib import import_module\nfrom debiaspl.__main__ import COMMANDS, _parser\n"
    code += "_parser()\nfor module, _ in COMMANDS.values():\n    import_module(module).build_parser()\n"
    code += "    print(module, *sys.modules)\n"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(COMMANDS)
    assert {module: HEAVY.intersection(loaded) for module, *loaded in lines if HEAVY.intersection(loaded)} == {}


def test_without_a_command_the_help(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown or f"\n    {name}\n" in shown for name in COMMANDS)


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"debiaspl {__version__}\n")


def test_a_misspelt_command_names_the_near_ones(capsys):
    assert main(["trian", "--data", "x"]) == 2
    assert "did you mean train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("debiaspl spl", {"splits"}),
        ("debiaspl train --pri", {"--print-config"}),
        ("debiaspl splits per", {"percent", "per-class"}),
        ("debiaspl completion z", {"zsh"}),
    ],
)
def test_a_shell_completes_the_line(tmp_path, line, wanted):
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    asking = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    python("-m", "debiaspl", COMP_LINE=line, COMP_POINT=str(len(line)), **asking)
    assert {word.strip() for word in answer.read_text().split()} == wanted


def test_the_shells_code_names_the_command(capsys):
    pytest.importorskip("argcomplete")
    assert main(["completion", "bash"]) == 0
    assert "debiaspl" in capsys.readouterr().out
    assert import_module("debiaspl.commands.completion").build_parser().prog.endswith("debiaspl completion")


def chosen(*words: str) -> str:
    return train.chosen_recipe(train.build_parser().parse_args(words)).name


def test_data_alone_asks_for_recipe_own(tmp_path):
    assert chosen("--data", "pictures") == "own"
    assert chosen() == "imagenet-1p"
    assert chosen("--recipe", "demo", "--data", "pictures") == "demo"
    write_config(tmp_path, override(find("demo"), ["science.tau=0.7"]), "0")
    assert chosen("--resume", str(tmp_path), "--data", "pictures") == "demo"  # the settings of the run that goes on
