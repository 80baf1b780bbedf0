"""Converts an ImageFolder into FFCV's .beton files: ROOT/train and ROOT/val become ROOT/ffcv/{train,val}.beton.

    python tools/convert_imagenet_to_ffcv.py --data dataset/imagenet

Fields: ``image`` (RGBImageField), ``label`` and ``index`` (IntField; the position in the sorted listing of the split).
All images of the listing are written, in its order; subsets are chosen by index when training.

A JPEG (RGB or grey) is stored as it is, byte for byte: no second compression, so the ffcv pipeline sees the pixels
that the others see. Other files (a PNG named .JPEG, a CMYK JPEG) are converted to RGB and encoded as JPEG of
``--quality``: their pixels differ by that one generation. So do those of images that ``--max-resolution`` shrinks:
their longer side is limited to it by Pillow's LANCZOS filter (the area filter of Pillow aliases at ratios near 1).

The same input gives the same bytes with any number of workers.
"""

import argparse
import io
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the command above works without an install

from pipelines.errors import DataError, MissingDependency, UserError
from pipelines.listing import Listing, list_images

_SMALLEST_PAGE = 1 << 23
"""FFCV's own default, bytes; a page must hold the largest stored image."""
_AHEAD = 8
"""Images per worker that may wait for their turn to be written."""


@dataclass(frozen=True)
class Encoding:
    """What happens to images that are not stored as they are."""

    max_resolution: int | None = None  # longest side in pixels; None: never resized
    quality: int = 90


@dataclass(frozen=True)
class StoredImage:
    """One image as it goes into the file."""

    jpeg: bytes
    width: int
    height: int
    original: bool  # the bytes are the file's own


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 after a message about what to mend, 130 when interrupted."""
    options = _arguments(argv)
    encoding = Encoding(options.max_resolution, options.quality)
    try:
        # List all splits first: a missing folder is reported now, not after hours of work on the first.
        listings = {split: list_images(options.data / split) for split in options.split}
        for split, listing in listings.items():
            convert(listing, options.data / "ffcv" / f"{split}.beton", encoding, options.workers)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the unfinished file is removed.", file=sys.stderr)
        return 130
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def positive(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
        return number

    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="folder with train/ and val/")
    parser.add_argument("--split", nargs="+", default=["train", "val"], help="folders below ROOT to convert")
    parser.add_argument("--max-resolution", type=positive, metavar="N", help="limit the longer side to N pixels")
    parser.add_argument("--quality", type=int, default=90, choices=range(1, 101), metavar="1..100", help="JPEG quality")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=positive, default=cores, metavar="N", help="threads that read and encode")
    return parser.parse_args(argv)


def convert(listing: Listing, beton: Path, encoding: Encoding, workers: int) -> None:
    """Write ``beton`` and its sidecar: both complete, or (after an error or Ctrl-C) as they were before.

    Raises DataError where an image cannot be decoded or the file cannot be written, MissingDependency without ffcv.
    """
    try:
        from pipelines.ffcv_source import open_beton, sidecar_path
    except ModuleNotFoundError as error:
        if error.name != "ffcv":
            raise
        raise MissingDependency("The converter needs ffcv. Run: pip install -e '.[ffcv]'") from error

    partial = beton.with_name(f"{beton.name}.partial-{os.getpid()}")  # same folder: replacing is one rename
    partial_sidecar = sidecar_path(partial)
    try:
        beton.parent.mkdir(parents=True, exist_ok=True)
        originals = _write(listing, partial, encoding, workers)
        open_beton(partial)  # raises where it is not what its readers will want
        partial_sidecar.write_text(json.dumps(_sidecar(listing, partial, encoding, originals), indent=1) + "\n")
        _sync(partial)
        _sync(partial_sidecar)
        sidecar_path(beton).unlink(missing_ok=True)  # never an old sidecar beside a new file
        partial.replace(beton)
        partial_sidecar.replace(sidecar_path(beton))
        _sync(beton.parent)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"Cannot write {beton}: {reason}. Check the folder's permissions and the disk's space."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        partial_sidecar.unlink(missing_ok=True)
    print(f"{beton}: {len(listing)} images, {originals} of them stored as they are")


def _write(listing: Listing, target: Path, encoding: Encoding, workers: int) -> int:
    """Write the file with FFCV's own code; returns how many images are stored as they are.

    DatasetWriter's worker processes are left out: it waits for ever when one of them dies of a bad image, places the
    samples by timing, and its shared memory outgrows a container's. One thread of ours places what the pool reads.
    """
    from ffcv.fields import IntField, RGBImageField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    largest = max(listing.path(index).stat().st_size for index in range(len(listing)))
    page_size = max(_SMALLEST_PAGE, 1 << (largest - 1).bit_length())
    # The descriptors in the file come from FFCV's own types, so that its unmodified Reader knows the fields …
    described = {"image": RGBImageField(), "label": IntField(), "index": IntField()}
    writer = DatasetWriter(str(target), described, page_size=page_size, num_workers=1)
    writer.num_samples = len(listing)
    writer.prepare()
    writer.metadata_sm.close()
    writer.metadata_sm.unlink()
    metadata = np.zeros(len(listing), writer.metadata_type)
    writer.metadata_sm = SimpleNamespace(buf=metadata.view(np.uint8))
    # … and the image itself is written by ours, which does not encode again.
    written = {**described, "image": _JpegBytes()}

    allocator = MemoryAllocator(str(target), writer.data_region_start, page_size)
    originals = 0
    allocator.__enter__()  # opens the file; its __exit__, after an error, may wait for ever for its turn to write
    with allocator.fp, tqdm(total=len(listing), desc=listing.root.name, unit=" images", smoothing=0.05) as progress:
        for index, image in enumerate(_stored_images(listing, encoding, workers)):
            if len(image.jpeg) > page_size:
                raise DataError(
                    f"{listing.path(index)} takes {len(image.jpeg)} bytes as a JPEG, more than a page of the file "
                    f"({page_size}). Limit the images with --max-resolution."
                )
            sample = (image, int(listing.labels[index]), index)
            handle_sample(sample, index, metadata.dtype.names, metadata, allocator, written)
            originals += image.original
            progress.update()
        allocator.flush_page()
    expected, size = allocator.offset + (allocator.my_page + 1) * page_size, target.stat().st_size
    if size != expected:  # FFCV does not look at how much a write wrote
        raise OSError(f"only {size} of {expected} bytes were written")
    writer.finalize(allocator.allocations)
    return originals


class _JpegBytes:
    """Takes the place of RGBImageField while writing: same metadata, but the given bytes instead of new ones."""

    def encode(self, destination: Any, image: StoredImage, malloc: Any) -> None:
        destination["mode"] = 0  # "jpg"
        destination["width"], destination["height"] = image.width, image.height
        destination["data_ptr"], storage = malloc(len(image.jpeg))
        storage[:] = np.frombuffer(image.jpeg, np.uint8)


def _stored_images(listing: Listing, encoding: Encoding, workers: int) -> Iterator[StoredImage]:
    """All images in listing order, prepared by ``workers`` threads, of which only a few images wait in memory.

    Threads, not processes: reading, decoding, resizing and encoding all happen without the GIL.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="convert")
    waiting: deque[Future[StoredImage]] = deque()
    try:
        for index in range(len(listing)):
            waiting.append(pool.submit(_stored_image, listing.path(index), encoding))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _stored_image(path: Path, encoding: Encoding) -> StoredImage:
    """Read, check and, where it must be, encode one image.

    Every image is decoded here, so that a damaged file is named now and not in the middle of a training run.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if encoding.max_resolution and max(width, height) > encoding.max_resolution:
                stored = _encoded(_shrunk(image.convert("RGB"), encoding.max_resolution), encoding)
            elif image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):  # MPO: a JPEG with others behind it
                image.draft(None, (1, 1))  # an eighth of the size shows damage as well, in half the time
                image.load()
                stored = StoredImage(data, width, height, original=True)
            else:
                stored = _encoded(image.convert("RGB"), encoding)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises all of these
        raise DataError(f"Cannot decode {path}: {error}. Replace the file or take it out of the data.") from error
    return stored


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    """The image with its longer side ``longest``, the other one rounded down as FFCV does, but at least one pixel."""
    scale = longest / max(image.size)
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, encoding: Encoding) -> StoredImage:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=encoding.quality)
    return StoredImage(buffer.getvalue(), *image.size, original=False)


def _sidecar(listing: Listing, written: Path, encoding: Encoding, originals: int) -> dict[str, Any]:
    """What the .beton does not say of itself; the source compares it with its listing."""
    return {
        "fingerprint": listing.fingerprint,
        "count": len(listing),
        "bytes": written.stat().st_size,
        "originals": originals,
        "parameters": {"max_resolution": encoding.max_resolution, "quality": encoding.quality, "filter": "LANCZOS"},
        "versions": {name: _version(name) for name in ("ffcv", "pillow", "numpy", "debiaspl")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": listing.classes,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # ours, run from a checkout
        return "not installed"


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
