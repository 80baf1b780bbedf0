"""The executor that is the definition: Pillow itself carries out a plan, one image at a time."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from pipelines.augment import ops
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan
from pipelines.samples.reading import AS_TORCHVISION, Reading


def decode(path: Path, reading: Reading = AS_TORCHVISION) -> Image.Image:
    """Returns the RGB image at ``path``, by default as torchvision's loader gives it (EXIF rotation ignored).

    Raises OSError where the file cannot be read or is not an image.
    """
    return decode_content(path.read_bytes(), reading)


def decode_content(content: bytes, reading: Reading = AS_TORCHVISION) -> Image.Image:
    """Returns what ``decode`` does, of a file's bytes."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return reading.rgb(image)
    except UnidentifiedImageError as error:  # its own words hold an address in memory
        raise OSError("not an image") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever the damage makes them raise
        raise OSError(str(error) or type(error).__name__) from error


def execute(image: Image.Image, plan: Plan, sample: int) -> NDArray[np.uint8]:
    """Returns the views [v, size, size, 3] that ``plan`` wants of its ``sample``-th image."""
    return np.stack([np.asarray(_view(image, plan, view, sample)) for view in range(len(plan.crop))])


def _view(image: Image.Image, plan: Plan, view: int, sample: int) -> Image.Image:
    top, left, height, width = plan.crop[view, sample].tolist()
    resized_height, resized_width = plan.resized[view, sample].tolist()
    cut = image.crop((left, top, left + width, top + height))
    cut = cut.resize((resized_width, resized_height), Image.Resampling.BILINEAR)
    top, left = plan.window[view, sample].tolist()
    cut = cut.crop((left, top, left + plan.size, top + plan.size))
    if plan.flip[view, sample]:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for op, level in zip(plan.op[view, sample].tolist(), plan.level[view, sample].tolist(), strict=True):
        cut = apply(Op(op), level, cut)
    return cut


def apply(op: Op, level: int, image: Image.Image) -> Image.Image:
    """Applies one RandAugment operation at a signed level (±1..±9) on an RGB image."""
    u = ops.value(op, level)
    match op:
        case Op.AutoContrast:
            return ImageOps.autocontrast(image)
        case Op.Brightness:
            return ImageEnhance.Brightness(image).enhance(u)
        case Op.Color:
            return ImageEnhance.Color(image).enhance(u)
        case Op.Contrast:
            return ImageEnhance.Contrast(image).enhance(u)
        case Op.Equalize:
            return ImageOps.equalize(image)
        case Op.Identity:
            return image
        case Op.Invert:
            return ImageOps.invert(image)
        case Op.Posterize:
            return ImageOps.posterize(image, int(u))
        case Op.Rotate:
            return image.rotate(u)
        case Op.Sharpness:
            return ImageEnhance.Sharpness(image).enhance(u)
        case Op.ShearX:
            return _affine(image, (1, u, 0, 0, 1, 0))
        case Op.ShearY:
            return _affine(image, (1, 0, 0, u, 1, 0))
        case Op.Solarize:
            return ImageOps.solarize(image, 256 - int(u))
        case Op.SolarizeAdd:
            added = np.clip(np.asarray(image).astype(np.int16) + int(u), 0, 255).astype(np.uint8)
            return ImageOps.solarize(Image.fromarray(added), 128)
        case Op.TranslateX:
            return _affine(image, (1, 0, int(u * image.width), 0, 1, 0))
        case Op.TranslateY:
            return _affine(image, (1, 0, 0, 0, 1, int(u * image.height)))


def _affine(image: Image.Image, matrix: tuple[int | float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)
