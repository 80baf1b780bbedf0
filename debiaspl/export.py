"""Export: python -m debiaspl.export runs/demo --format onnx (a network for other programs, and how they use it)."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl.using.options import add_network
from debiaspl.using.snippets import SUFFIXES
from pipelines import console

_EPILOG = """\
formats
  safetensors   weights by the names that torchvision, or timm for its networks, load with strict=True
  torch         a program of torch.export: uint8 pixels [n, size, size, 3] in, logits out; torch.export.load opens it
  onnx          the same for onnxruntime and others, compared with PyTorch before it is kept

All of them hold the class names, and the last two normalise by themselves and take any number of images at once. The
command prints the few lines of Python that use the file.

exit codes: 0 done; 2 something to mend, said in one message
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("export", "python -m debiaspl.export"),
        description="Writes a run's network to a file for other programs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser)
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="safetensors", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: model.<suffix> beside the checkpoint")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 where something is to be mended."""
    parsed = build_parser().parse_args(arguments)
    from debiaspl.using.exporting import export  # imports torch, which --help need not wait for

    export(parsed)
    return 0


if __name__ == "__main__":
    console.run(main)
