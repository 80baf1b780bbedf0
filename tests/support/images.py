"""Small pictures, and a data folder with one of each kind that the converter tells apart."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((64, 48), (90, 120), (33, 57), (200, 40), (75, 75))  # width, height


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Soft blots of colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 12 + 1, width // 12 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def mixed_data(root: Path) -> Path:
    """Makes and returns the data folder ``root``.

    train: 4:2:0, 4:4:4, grey and progressive JPEGs, a PNG named .JPEG and a CMYK JPEG; val: two JPEGs of one size.
    """
    for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (root / name).mkdir(parents=True)
    for seed, (width, height) in enumerate(SIZES):
        image = photo(width, height, seed)
        image.save(root / f"train/ant/{seed}.JPEG", subsampling="4:2:0", quality=85)
        image.save(root / f"train/bee/{seed}.jpg", subsampling="4:4:4", progressive=seed % 2 == 1)
    photo(61, 45, 10).convert("L").save(root / "train/bee/grey.jpeg")
    photo(50, 70, 11).save(root / "train/bee/really_png.JPEG", "PNG")
    photo(52, 44, 12).convert("CMYK").save(root / "train/bee/cmyk.jpeg")
    for name in ("ant", "bee"):
        photo(80, 60, 13).save(root / f"val/{name}/0.jpg")
    return root
