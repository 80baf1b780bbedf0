"""Which files DALI may be handed as they are.

A header that DALI 2.4.0 cannot parse does not raise: more often than not it ends the process (a race in its decoder,
seen with files that are no images and with damaged JPEG headers). So headers are looked at first, in some 15 µs a
JPEG: one or two percent of one thread's time to decode it.
"""

from pathlib import Path

from PIL import Image

from pipelines.samples.image_header import HEAD, START, jpeg_header

_USUAL = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_MODES = {"PNG": _USUAL, "BMP": _USUAL, "WEBP": _USUAL, "PPM": _USUAL, "TIFF": frozenset({"L", "RGB", "RGBA"})}
"""Format → modes that DALI decodes as Pillow does (tried with DALI 2.4.0); 16 bits, for one, it scales differently."""


def is_safe(path: Path) -> bool:
    """Whether DALI will parse the header and, if it decodes the rest, give Pillow's pixels."""
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD)
            if head.startswith(START):
                return (jpeg_header(head) or jpeg_header(head + file.read())) is not None
        with Image.open(path) as image:
            return image.mode in _MODES.get(image.format or "", ())
    except Exception:  # Pillow's plug-ins raise whatever the damage makes them raise
        return False
