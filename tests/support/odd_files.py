"""Files of every odd kind: how each is made, and what the converter's list says of it."""

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.images import photo


def truncated(path: Path) -> None:
    photo(80, 60, 1).save(path)
    path.write_bytes(path.read_bytes()[:-100])


def orientated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(80, 60, 2).save(path, exif=exif)


def animated(path: Path) -> None:
    photo(40, 30, 3).save(path, "GIF", save_all=True, append_images=[photo(40, 30, 4)])


def torn_png(path: Path) -> None:
    """A PNG whose second block of pixels is no block."""
    photo(400, 300, 12).save(path, "PNG", compress_level=0)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[at - 4 : at + 4] = b"\xff" * 8
    path.write_bytes(content)


def bomb(path: Path) -> None:
    photo(40, 30, 5).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    path.write_bytes(content)


def jpeg_bomb(path: Path) -> None:
    photo(40, 30, 5).save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = (60000).to_bytes(2) * 2
    path.write_bytes(content)


# name → how it is made, its status, the beginning of the reason
ODD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated.jpg": (truncated, "left out", "truncated: "),
    "header only.jpg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF"), "left out", "truncated: "),
    "empty.jpg": (lambda path: path.write_bytes(b""), "left out", "empty file"),
    "text.jpg": (lambda path: path.write_text("not found\n" * 30), "left out", "not an image"),
    "cmyk.jpg": (lambda path: photo(52, 44, 6).convert("CMYK").save(path), "stored as pixels", "CMYK"),
    "grey.jpg": (lambda path: photo(52, 44, 7).convert("L").save(path), "kept as it is", "grey JPEG"),
    "sixteen.png": (
        lambda path: Image.fromarray(np.arange(2500, dtype=np.uint16).reshape(50, 50) * 26).save(path),
        "stored as pixels",
        "16 bits: cut to 8 as Pillow does",
    ),
    "png.JPEG": (lambda path: photo(50, 40, 8).save(path, "PNG"), "stored as pixels", "PNG named .JPEG"),
    "webp.JPEG": (lambda path: photo(50, 40, 9).save(path, "WEBP"), "stored as pixels", "WEBP named .JPEG"),
    "turned.jpg": (orientated, "kept as it is", "EXIF rotation ignored, as torchvision does: orientation 6"),
    "animated.jpg": (animated, "stored as pixels", "GIF named .jpg; mode P; animated: the first of 2"),
    "torn.png": (torn_png, "left out", "damaged: "),
    "bomb.png": (bomb, "left out", "absurd dimensions: "),
    "bomb.jpg": (jpeg_bomb, "left out", "absurd dimensions: 60000 × 60000, refused before decoding"),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere"), "left out", "cannot be read: dangling symlink"),
    "forbidden.jpg": (lambda path: photo(50, 40, 10).save(path), "left out", "cannot be read: Permission denied"),
}


def listed(beton: Path) -> dict[str, tuple[str, str]]:
    """Path → status and reason, as the list of files with notes has them."""
    with Path(f"{beton}.files.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["fate"], row["reason"]) for row in csv.DictReader(file)}
