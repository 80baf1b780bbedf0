"""What a command waits for before it answers: no PyTorch for --help, nothing that only another pipeline needs."""

import subprocess
import sys
from pathlib import Path

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from pipelines.samples.folder_scan import IMAGE_SUFFIXES

ROOT = Path(__file__).parents[2]


def imported_by(arguments: list[str], code: int = 0) -> set[str]:
    """The modules that are loaded when ``python -m debiaspl.train`` with these arguments has ended."""
    script = (
        "import sys, contextlib, io; from debiaspl.train import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): code = main(sys.argv[1:])\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--print-config", "--recipe", "demo"], ["--recipe", "dmeo"], ["--pipeline", "dahli"]]
)
def test_an_answer_without_a_run_does_not_wait_for_torch(arguments: list[str]) -> None:
    loaded = imported_by(arguments)
    assert "debiaspl.recipes" in loaded
    assert not loaded & {"torch", "numba", "torchvision", "matplotlib", "rich"}


def test_no_command_that_uses_a_network_waits_for_torch_to_help():
    script = "import sys\nfrom debiaspl import evaluate, export, predict\n"
    script += (
        "for command in (evaluate, export, predict):\n    command.build_parser().format_help()\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(done.stdout.split()) & {"torch", "numba", "torchvision", "matplotlib", "rich", "pydantic", "jinja2"}


def test_help_does_not_wait_for_pydantic() -> None:
    assert "pydantic" not in imported_by(["--help"])


def test_one_batch_imports_only_what_it_needs(demo_data: Path) -> None:
    run = ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(demo_data), "--dry-run"]
    loaded = imported_by([*run, "--set", "engine.device=cpu"])
    assert "torch" in loaded
    # torch._dynamo is not among them: torch's own optimizers import it.
    others = {"torchvision", "torch.utils.tensorboard", "matplotlib", "numba", "nvidia.dali", "ffcv", "faiss", "timm"}
    assert not loaded & others


def test_image_suffixes_are_torchvisions() -> None:
    assert IMAGE_SUFFIXES == IMG_EXTENSIONS
