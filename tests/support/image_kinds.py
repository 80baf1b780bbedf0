"""Image files of every format and attribute that decoders read differently, made by Pillow or byte by byte."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.samples.reading import ORIENTATION
from tests.support.images import photo

SIDE = 96


def image_kinds() -> dict[str, bytes]:
    """Returns name → file; all show ``SIDE`` × ``SIDE`` pixels, those that can be decoded at all."""
    image = photo(SIDE, SIDE, 1)
    return _jpegs(image) | _pngs(image) | _tiffs(image) | _others(image) | _portable(np.asarray(image))


def _encoded(image: Image.Image, format_: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **how)
    return buffer.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def _with_alpha(image: Image.Image) -> Image.Image:
    transparent = image.copy()
    transparent.putalpha(image.convert("L"))
    return transparent


def _jpegs(image: Image.Image) -> dict[str, bytes]:
    grey = image.convert("L")
    plain, cmyk = _encoded(image, "JPEG", subsampling="4:4:4"), _encoded(image.convert("CMYK"), "JPEG")
    found = {f"JPEG {kind}": _encoded(image, "JPEG", subsampling=kind) for kind in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")}
    bare = plain[:2] + plain[plain.index(b"\xff\xdb") :]  # without JFIF's segment
    for transform in (0, 1, 2):
        adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
        found[f"JPEG Adobe transform {transform}"] = bare[:2] + adobe + bare[2:]
        found[f"JPEG Adobe transform {transform} beside JFIF"] = plain[:2] + adobe + plain[2:]
    for factors in ((0x12, 0x11, 0x11), (0x31, 0x11, 0x11), (0x11, 0x21, 0x11), (0x22, 0x12, 0x21), (0x42, 0x11, 0x11)):
        found[f"JPEG sampling {[hex(factor) for factor in factors]}"] = _sampled(plain, factors)
    for marker in (0xC1, 0xC3, 0xC5, 0xC9, 0xCA):
        found[f"JPEG coding {marker:x}"] = plain.replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    for bits in (12, 16):
        found[f"JPEG {bits} bits"] = plain.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11" + bytes([bits]), 1)
    return found | {
        "JPEG progressive": _encoded(image, "JPEG", progressive=True),
        "JPEG grey": _encoded(grey, "JPEG"),
        "JPEG grey progressive": _encoded(grey, "JPEG", progressive=True),
        "JPEG grey sampled": _sampled(_encoded(grey, "JPEG"), (0x22,)),
        "JPEG CMYK": cmyk,
        "JPEG YCCK": cmyk.replace(b"Adobe\x00\x64\x00\x00\x00\x00\x00", b"Adobe\x00\x64\x00\x00\x00\x00\x02", 1),
        "JPEG RGB": _encoded(image, "JPEG", keep_rgb=True),
        "JPEG without JFIF": bare,
        "JPEG restarts in blocks": _encoded(image, "JPEG", restart_marker_blocks=3),
        "JPEG restarts in rows": _encoded(image, "JPEG", restart_marker_rows=1),
        "JPEG turned": _encoded(image, "JPEG", exif=_turned()),
        "JPEG long profile": _encoded(image, "JPEG", icc_profile=bytes(70_000)),
        "JPEG fill bytes": plain[:2] + b"\xff" * 5 + plain[2:],
        "JPEG with a tail": plain + b"tail" * 100,
        "JPEG without an end": plain[:-2],
        "JPEG cut": plain[: len(plain) // 2],
        "JPEG cut and ended": plain[: len(plain) // 2] + b"\xff\xd9",
        "JPEG progressive without its last scan": _without_last_scan(_encoded(image, "JPEG", progressive=True)),
        "JPEG several": _encoded(image, "MPO", save_all=True, append_images=[image.rotate(90)]),
    }


def _sampled(jpeg: bytes, factors: Sequence[int]) -> bytes:
    """Returns the JPEG with other sampling factors in its frame: other pixels, but still pixels."""
    content, frame = bytearray(jpeg), jpeg.index(b"\xff\xc0")
    for part, factor in enumerate(factors):
        content[frame + 11 + 3 * part] = factor
    return bytes(content)


def _without_last_scan(progressive: bytes) -> bytes:
    last = progressive.rindex(b"\xff\xda")
    return progressive[: progressive.rindex(b"\xff\xc4", 0, last)] + b"\xff\xd9"


def _pngs(image: Image.Image) -> dict[str, bytes]:
    plain, palette, pixels = _encoded(image, "PNG"), image.quantize(50), np.asarray(image)
    wide = np.asarray(image.convert("L")).astype(np.uint16) * 200
    return {
        "PNG": plain,
        "PNG grey": _encoded(image.convert("L"), "PNG"),
        "PNG grey and alpha": _encoded(_with_alpha(image).convert("LA"), "PNG"),
        "PNG alpha": _encoded(_with_alpha(image), "PNG"),
        "PNG palette": _encoded(palette, "PNG"),
        "PNG palette of 2 bits": _encoded(image.quantize(4), "PNG", bits=2),
        "PNG palette, transparent": _encoded(palette, "PNG", transparency=bytes(range(50))),
        "PNG transparent colour": _encoded(image, "PNG", transparency=tuple(pixels[3, 4].tolist())),
        "PNG 1 bit": _encoded(image.convert("1"), "PNG"),
        "PNG 16 bits": _encoded(Image.fromarray(wide), "PNG"),
        "PNG 16 bits RGB": _png(pixels.astype(">u2") * 257 - 100, bits=16),
        "PNG interlaced": _png(pixels, interlaced=True),
        "PNG gamma": _with_chunk(plain, b"gAMA", struct.pack(">I", 100_000)),
        "PNG sRGB": _with_chunk(plain, b"sRGB", b"\0"),
        "PNG significant bits": _with_chunk(plain, b"sBIT", b"\5\5\5"),
        "PNG background": _with_chunk(plain, b"bKGD", bytes(6)),
        "PNG profile": _encoded(image, "PNG", icc_profile=bytes(500)),
        "PNG turned": _encoded(image, "PNG", exif=_turned()),
        "PNG animated": _encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        "PNG torn": plain[: len(plain) // 2],
    }


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    return png[:33] + _chunk(name, content) + png[33:]


def _png(pixels: NDArray[Any], bits: int = 8, interlaced: bool = False) -> bytes:
    """Returns an RGB PNG of pixels [height, width, 3], without filters."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in pixels[top::down, left::right]
    )
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 2, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _tiffs(image: Image.Image) -> dict[str, bytes]:
    found = {
        f"TIFF {how}": _encoded(image, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")
    }
    pixels, grey = np.asarray(image), np.asarray(image.convert("L"))
    for turn in range(1, 9):
        found[f"TIFF orientation {turn}"] = _tiff(pixels, orientation=turn)
    for mode in ("L", "1", "CMYK", "YCbCr", "LAB", "P"):
        found[f"TIFF {mode}"] = _encoded(image.quantize(50) if mode == "P" else _as(image, mode), "TIFF")
    return found | {
        "TIFF alpha": _encoded(_with_alpha(image), "TIFF"),
        "TIFF several": _encoded(image, "TIFF", save_all=True, append_images=[image.rotate(90)]),
        "TIFF planes": _tiff(pixels.transpose(2, 0, 1), planes=True),
        "TIFF white is zero": _tiff(grey[..., None], photometric=0),
        "TIFF 16 bits": _tiff(pixels.astype("<u2") * 257, bits=16),
        "TIFF 16 bits grey": _tiff(grey[..., None].astype("<u2") * 201, bits=16, photometric=1),
        "TIFF predictor": _encoded(image, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
    }


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode != "LAB":
        return image.convert(mode)
    return Image.merge("LAB", [plane.convert("L") for plane in image.split()])


def _tiff(
    pixels: NDArray[Any], bits: int = 8, photometric: int = 2, orientation: int = 1, planes: bool = False
) -> bytes:
    """Returns an uncompressed TIFF of pixels [height, width, c], or [c, height, width] where they lie in planes."""
    count = pixels.shape[0 if planes else 2]
    size, each, depths = pixels.nbytes, pixels.nbytes // count, struct.pack(f"<{count}H", *[bits] * count)
    tables = 8 + size
    strips = struct.pack(f"<{count}I", *(8 + each * plane for plane in range(count)))
    lengths = struct.pack(f"<{count}I", *[each] * count)
    entries = [
        (256, 4, 1, SIDE),
        (257, 4, 1, SIDE),
        (258, 3, count, bits if count == 1 else tables),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, count if planes else 1, tables + len(depths) if planes else 8),
        (274, 3, 1, orientation),
        (277, 3, 1, count),
        (278, 4, 1, SIDE),
        (279, 4, count if planes else 1, tables + len(depths) + len(strips) if planes else size),
        (284, 3, 1, 2 if planes else 1),
    ]
    extra = depths + strips + lengths
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", tables + len(extra)) + pixels.tobytes() + extra + directory


def _others(image: Image.Image) -> dict[str, bytes]:
    transparent = _with_alpha(image)
    return {
        "BMP": _encoded(image, "BMP"),
        "BMP palette": _encoded(image.quantize(50), "BMP"),
        "BMP grey": _encoded(image.convert("L"), "BMP"),
        "BMP 1 bit": _encoded(image.convert("1"), "BMP"),
        "BMP alpha": _encoded(transparent, "BMP"),
        "WebP": _encoded(image, "WEBP"),
        "WebP lossless": _encoded(image, "WEBP", lossless=True),
        "WebP alpha": _encoded(transparent, "WEBP"),
        "WebP lossless alpha": _encoded(transparent, "WEBP", lossless=True),
        "WebP animated": _encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "WebP turned": _encoded(image, "WEBP", exif=_turned()),
        "GIF": _encoded(image.quantize(50), "GIF"),
        "GIF animated": _encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    }


def _portable(pixels: NDArray[np.uint8]) -> dict[str, bytes]:
    def netpbm(kind: str, most: int, content: bytes, comment: str = "") -> bytes:
        return f"{kind}\n{comment}{SIDE} {SIDE}\n{most}\n".encode() + content

    words = " ".join(str(value) for value in pixels.ravel()).encode()
    return {
        "PPM": netpbm("P6", 255, pixels.tobytes()),
        "PPM comment": netpbm("P6", 255, pixels.tobytes(), "# by hand\n"),
        "PPM of white space": netpbm("P6", 255, bytes([10, 32, 35]) * (SIDE * SIDE)),
        "PPM up to 100": netpbm("P6", 100, (pixels % 101).tobytes()),
        "PPM 16 bits": netpbm("P6", 65535, (pixels.astype(">u2") * 201).tobytes()),
        "PPM 10 bits": netpbm("P6", 1023, (pixels.astype(">u2") * 4).tobytes()),
        "PPM text": netpbm("P3", 255, words),
        "PGM": netpbm("P5", 255, pixels[..., 0].tobytes()),
        "PGM up to 15": netpbm("P5", 15, (pixels[..., 0] % 16).tobytes()),
        "PBM": f"P4\n{SIDE} {SIDE}\n".encode() + np.packbits(pixels[..., 0] > 99, axis=1).tobytes(),
    }
