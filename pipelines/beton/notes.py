"""What the converter's list says of files that are not plain RGB JPEGs under a JPEG's name."""

from pathlib import Path

from PIL import Image

from pipelines.samples.image_header import Buffer, JpegHeader, orientation
from pipelines.samples.reading import Reading, orientation_of

_IGNORED = "EXIF rotation ignored, as torchvision does"
_PNG = b"\x89PNG\r\n\x1a\n"


def notes_of_jpeg(data: Buffer, header: JpegHeader) -> list[str]:
    """Returns the notes on a JPEG whose pixels need not be looked at."""
    notes = ["grey JPEG"] if header.components == 1 else []
    if (turned := orientation(data, header)) != 1:
        notes.append(f"{_IGNORED}: orientation {turned}")
    if header.several:
        notes.append("several pictures in one file: the first is read")
    return notes


def notes_of_image(path: str, data: Buffer, image: Image.Image, reading: Reading) -> list[str]:
    """Returns the notes on a file that Pillow has opened."""
    notes, suffix, kind = [], Path(path).suffix.lower(), image.format or "?"
    if kind != "MPO" and Image.registered_extensions().get(suffix) != kind:
        notes.append(f"{kind} named {Path(path).suffix}")
    if kind in ("JPEG", "MPO") and image.mode == "L":
        notes.append("grey JPEG")
    elif image.mode == "CMYK":
        notes.append("CMYK")
    elif image.mode.startswith("I") or (data[:8] == _PNG and data[24] == 16):
        notes.append("16 bits: cut to 8 as Pillow does")
    elif image.mode not in ("RGB", "L"):
        notes.append(f"mode {image.mode}")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(
            "several pictures in one file: the first is read" if kind == "MPO" else f"animated: the first of {frames}"
        )
    if reading.alpha != "drop" and image.has_transparency_data:
        notes.append(f"transparency on {reading.alpha}")
    if (turned := orientation_of(image)) != 1:
        what = "turned as EXIF asks" if reading.turns else _IGNORED
        notes.append(f"{what}: orientation {turned}")
    return notes
