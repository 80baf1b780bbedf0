"""Optional parts that are not installed: what each is for, and the command that installs it."""

from typing import NamedTuple

from pipelines.beton import turbojpeg
from pipelines.errors import MissingDependency, is_installed


class Part(NamedTuple):
    """An optional part."""

    name: str
    module: str
    purpose: str
    command: str


PARTS = (
    Part("torchvision", "torchvision", "the pipeline torchvision and most tests", "pip install -e '.[dev]'"),
    Part("DALI", "nvidia.dali", "the pipeline dali", "pip install -e '.[dali]'"),
    Part("faiss", "faiss", "kNN accuracy in evaluations", "pip install -e '.[knn]'"),
    Part("open_clip", "open_clip", "tools/make_clip_targets.py", "pip install -e '.[clip]'"),
    Part("timm", "timm", "networks named timm/…", "pip install -e '.[timm]'"),
    Part(
        "FFCV",
        "ffcv",
        "the bench's comparison with FFCV's own Loader; training does not need it",
        "pip install -e '.[ffcv]'",
    ),
)
TURBOJPEG = Part("libturbojpeg", "", "the pipeline ffcv on files that hold JPEGs", "apt-get install libturbojpeg0")


def missing() -> list[Part]:
    """Returns the optional parts that are not installed."""
    found = [part for part in PARTS if not is_installed(part.module)]
    try:
        turbojpeg.library()
    except MissingDependency:
        found.append(TURBOJPEG)
    return found
