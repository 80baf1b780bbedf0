"""The reference executor: the published pictures byte for byte, and plans carried out as torchvision would."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from pipelines.augment import ops, pillow
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan

GOLDEN = Path(__file__).parents[2] / "golden" / "randaugment_ops.npz"
LEVELS = (*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1))


@pytest.fixture(scope="module")
def image() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
    return coarse.resize((160, 120), Image.Resampling.BICUBIC)


def one_plan(
    crops: list[list[int]],
    size: int,
    *,
    resized: list[list[int]] | None = None,
    window: list[list[int]] | None = None,
    flip: list[bool] | None = None,
    op: list[list[Op]] | None = None,
    level: list[list[int]] | None = None,
) -> Plan:
    """A plan of one sample, a view for each of ``crops``."""
    v = len(crops)
    return Plan(
        crop=np.array(crops, np.int32)[:, None],
        resized=np.array(resized or [[size, size]] * v, np.int32)[:, None],
        window=np.array(window or [[0, 0]] * v, np.int32)[:, None],
        flip=np.array(flip or [False] * v)[:, None],
        op=np.array(op or [[Op.Identity] * 2] * v, np.uint8)[:, None],
        level=np.array(level or [[1, 1]] * v, np.int8)[:, None],
        size=size,
    )


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_operations_are_the_published_ones(op: Op) -> None:
    with np.load(GOLDEN) as file:
        images = file["images"]
        assert len(file.files) == 1 + 16 * 9 * 2
        for level in LEVELS:
            expected = file[f"{op.name}.v{abs(level)}.{'pos' if level > 0 else 'neg'}"]
            actual = np.stack([np.asarray(pillow.apply(op, level, Image.fromarray(image))) for image in images])
            np.testing.assert_array_equal(actual, expected, f"{op.name} {level}")


def test_the_published_pictures_tell_levels_and_signs_apart() -> None:
    """Otherwise the test above could not fail for a wrong level."""
    with np.load(GOLDEN) as file:
        for op in Op:
            pictures = {file[f"{op.name}.v{v}.{sign}"].tobytes() for v in range(1, 10) for sign in ("pos", "neg")}
            values = {ops.value(op, level) for level in LEVELS}
            if op == Op.TranslateY:  # by whole pixels: the first level moves a picture of 20 rows by 0, either way
                values = {int(20 * value) for value in values}
                assert len(values) == 17
            assert len(pictures) == len(values), op.name


def test_crop_resize_and_flip_are_torchvisions(image: Image.Image) -> None:
    rng = np.random.default_rng(1)
    crops = []
    for _ in range(40):
        height, width = rng.integers(1, 121), rng.integers(1, 161)
        crops.append([int(n) for n in (rng.integers(0, 121 - height), rng.integers(0, 161 - width), height, width)])
    crops.append([0, 0, 120, 160])
    flip = [bool(number % 2) for number in range(len(crops))]
    actual = pillow.execute(image, one_plan(crops, 48, flip=flip), 0)
    assert actual.shape == (41, 48, 48, 3)
    assert actual.dtype == np.uint8
    for view, (box, mirrored) in enumerate(zip(crops, flip, strict=True)):
        expected = F.resized_crop(image, *box, [48, 48], InterpolationMode.BILINEAR)
        expected = F.hflip(expected) if mirrored else expected
        np.testing.assert_array_equal(actual[view], np.asarray(expected), f"{box} {mirrored}")
        assert not np.array_equal(actual[view], np.asarray(F.hflip(expected)))


def test_the_window_is_cut_before_the_flip(image: Image.Image) -> None:
    plan = one_plan([[10, 20, 90, 110]] * 2, 30, resized=[[45, 61]] * 2, window=[[4, 25]] * 2, flip=[False, True])
    upright, mirrored = pillow.execute(image, plan, 0)
    resized = image.crop((20, 10, 130, 100)).resize((61, 45), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(upright, np.asarray(resized)[4:34, 25:55])
    np.testing.assert_array_equal(mirrored, upright[:, ::-1])


def test_operations_come_last_in_their_order(image: Image.Image) -> None:
    pair = [Op.Rotate, Op.Posterize], [Op.Posterize, Op.Rotate], [Op.TranslateX, Op.ShearY], [Op.ShearY, Op.TranslateX]
    level = [[7, 2], [2, 7], [-3, 8], [8, -3]]
    plan = one_plan([[5, 6, 100, 120]] * 4, 40, flip=[True] * 4, op=list(pair), level=level)
    actual = pillow.execute(image, plan, 0)
    plain = pillow.execute(image, one_plan([[5, 6, 100, 120]], 40, flip=[True]), 0)[0]
    for view in range(4):
        expected = Image.fromarray(plain)
        for op, by in zip(pair[view], level[view], strict=True):
            expected = pillow.apply(op, by, expected)
        np.testing.assert_array_equal(actual[view], np.asarray(expected))
    assert not np.array_equal(actual[2], actual[3])


def test_each_sample_has_its_own_plan(image: Image.Image) -> None:
    a, b = one_plan([[0, 0, 50, 50]], 20), one_plan([[60, 70, 50, 60]], 20, flip=[True], op=[[Op.Invert, Op.Color]])
    both = Plan(*(np.concatenate(parts, axis=1) for parts in zip(a[:-1], b[:-1], strict=True)), 20)
    for sample, single in enumerate((a, b)):
        np.testing.assert_array_equal(pillow.execute(image, both, sample), pillow.execute(image, single, 0))


def test_the_image_is_left_as_it_is(image: Image.Image) -> None:
    before = np.asarray(image).copy()
    for op in Op:
        pillow.apply(op, 9, image)
    pillow.execute(image, one_plan([[0, 0, 120, 160]], 20, op=[[Op.SolarizeAdd, Op.Invert]]), 0)
    np.testing.assert_array_equal(np.asarray(image), before)


def saved(image: Image.Image, path: Path, **how: object) -> NDArray[np.uint8]:
    image.save(path, **how)
    return np.asarray(pillow.decode(path))


def test_decoding_gives_rgb(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    np.testing.assert_array_equal(saved(image, path, format="PNG"), np.asarray(image))
    grey = saved(image.convert("L"), path, format="JPEG")
    assert grey.shape == (120, 160, 3)
    assert (grey == grey[..., :1]).all()
    assert saved(image.convert("CMYK"), path, format="JPEG").shape == (120, 160, 3)
    transparent = image.convert("RGBA")
    transparent.putalpha(9)
    np.testing.assert_array_equal(saved(transparent, path, format="PNG"), np.asarray(image))


def test_decoding_ignores_the_camera_s_orientation(image: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = saved(image, tmp_path / "turned.jpg", exif=exif), saved(image, tmp_path / "plain.jpg")
    np.testing.assert_array_equal(turned, plain)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated"])
def test_what_cannot_be_decoded_raises_oserror(image: Image.Image, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "image.jpg"
    image.save(path)
    content = {"empty": b"", "text": b"not an image", "truncated": path.read_bytes()[:-400]}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[damage])
    with pytest.raises(OSError):  # noqa: PT011 (Pillow's own words)
        pillow.decode(path)
