"""The images that a measurement reads: the bench's own corpus, or a sample of the user's own, which are only linked."""

import os
import tempfile
from contextlib import ExitStack
from itertools import islice, zip_longest
from pathlib import Path

from bench import corpus
from bench.arguments import STEP
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.folder_scan import IMAGE_SUFFIXES
from pipelines.samples.listing import Listing, list_images


def root_of(data: Path | None, folder: Path, images: int, opened: ExitStack) -> Path:
    """Returns a root with ``train/<class>/<image>``: of the corpus in ``folder``, or of links to images of ``data``.

    ``data`` has a folder train, or is such a folder itself. The sample is a whole number of steps, at most ``images``;
    nothing is written to ``data``, and the links go when ``opened`` closes. Raises DataError where there are too few.
    """
    if data is None:
        return corpus.build(folder, images)
    classes = data / "train" if (data / "train").is_dir() else data
    root = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-sample-")))
    linked = _link(_spread(classes, images), root)
    listing = list_images(root / "train", on_bad="keep") if linked else None
    bad = [listing.path(index) for index in listing.bad] if listing else []
    for path in bad:
        path.unlink()
    whole = (linked - len(bad)) // STEP * STEP
    if whole == 0:
        raise DataError(
            f"{readable(classes)} has {linked - len(bad)} images in class folders that can be read; a measurement "
            f"takes {STEP} at least. Name a folder with train/<class>/<images> below it with --data."
        )
    for path in sorted((root / "train").glob("*/*"))[whole:]:
        path.unlink()
    return root


def require_jpegs(listing: Listing) -> None:
    """Raises DataError where an image is no JPEG: what is compared with decoding JPEGs alone must be one."""
    others = [index for index in range(len(listing)) if listing.path(index).read_bytes()[:3] != b"\xff\xd8\xff"]
    if others:
        name = readable(listing.path(others[0]).resolve())
        raise DataError(
            f"{len(others)} of {len(listing)} images are no JPEGs ({name}), and this bench compares with decoding "
            "those. python -m bench train measures a loader on any images."
        )


def _spread(classes: Path, images: int) -> list[Path]:
    """Returns at most so many image files, as many of each class as there are, in the folders' order."""
    folders = sorted(each.path for each in os.scandir(classes) if each.is_dir()) if classes.is_dir() else []
    by_class = [_files(Path(folder), images) for folder in folders]
    taken = (path for row in zip_longest(*by_class) for path in row if path is not None)
    return list(islice(taken, images))


def _files(folder: Path, most: int) -> list[Path]:
    """Returns the first image files of a class, in whatever order the file system has them."""
    found = (Path(entry.path) for entry in os.scandir(folder) if entry.name.lower().endswith(IMAGE_SUFFIXES))
    return list(islice(found, most))


def _link(paths: list[Path], root: Path) -> int:
    for number, path in enumerate(paths):
        place = root / "train" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06}{path.suffix}").symlink_to(path.resolve())
    return len(paths)
