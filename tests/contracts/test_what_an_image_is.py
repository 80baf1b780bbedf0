"""All pipelines accept the same files, and decode them to the pixels that Pillow makes of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.augment import pillow
from pipelines.beton.one_image import Encoding, Status, stored_image
from pipelines.errors import DataError
from pipelines.samples.listing import Listing, list_images

pytest.importorskip("nvidia.dali", reason="the optional pipeline 'dali' is not installed: pip install -e '.[dali]'")

from pipelines.sources.dali_files import usual_jpeg
from tests.support.image_kinds import SIDE, image_kinds
from tests.support.judged_images import assert_alike, judged, written
from tests.support.mutated_jpegs import mutated

KINDS = image_kinds()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    files = [*KINDS.values(), *[KINDS["PNG"]] * (-len(KINDS) % 4)]
    listing = written(folder, files)
    return listing, judged(listing, folder / "kinds.beton", SIDE)


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)), ids=KINDS)
def test_every_format_and_attribute_is_read_alike(kinds, number, kind):
    _, found = kinds
    try:
        expected = np.asarray(pillow.decode_content(KINDS[kind]))
    except OSError:
        assert all(number not in accepted for accepted in found.values())
        return
    assert expected.shape == (SIDE, SIDE, 3)
    for pipeline, accepted in found.items():
        np.testing.assert_array_equal(accepted[number], expected, pipeline)


def test_dali_is_trusted_with_usual_jpegs_alone():
    trusted = {kind for kind, content in KINDS.items() if usual_jpeg(content, (SIDE, SIDE)) is not None}
    assert {"JPEG 4:2:0", "JPEG 4:4:4", "JPEG progressive", "JPEG grey", "JPEG restarts in rows"} <= trusted
    assert {"JPEG turned", "JPEG long profile"} <= trusted
    assert all(kind.startswith("JPEG") for kind in trusted)
    assert not trusted & {"JPEG CMYK", "JPEG 12 bits", "JPEG several", "JPEG with a tail", "JPEG without an end",
                          "JPEG cut", "JPEG progressive without its last scan", "JPEG coding c9"}  # fmt: skip


def test_a_hundred_mutated_jpegs_are_accepted_and_refused_alike(tmp_path):
    found = judged(written(tmp_path, mutated(100, seed=0)), tmp_path / "mutated.beton", SIDE)
    assert 20 < len(found["torchvision"]) < 80
    assert_alike(found)


# --- files that cannot hold their pixels ------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A progressive JPEG of about a thousand bytes that claims many pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG", progressive=True)
    content = bytearray(buffer.getvalue())
    frame = content.index(b"\xff\xc2")
    content[frame + 5 : frame + 9] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(content)


def white(side: int, format_: str, **how) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 255).save(buffer, format_, **how)
    return buffer.getvalue()


def folder_of(root: Path, content: bytes) -> Path:
    (root / "class").mkdir(parents=True)
    (root / "class/0.jpg").write_bytes(content)
    Image.new("RGB", (8, 8)).save(root / "class/1.jpg")
    return root


def converted(root: Path, encoding: Encoding):
    return stored_image(str(root / "class/0.jpg"), 0, 0, encoding, memoryview(bytearray(1 << 20)))


def test_a_jpeg_with_too_few_bytes_for_its_pixels_is_a_bad_file_everywhere(tmp_path):
    root, reason = folder_of(tmp_path / "images", bomb(8000, 20000)), "too few bytes for its 8000 × 20000 pixels"
    for _ in range(2):  # as listed, and as remembered
        listing = list_images(root, on_bad="keep")
        assert listing.bad == {0: reason}
        assert (listing.widths[0], listing.heights[0], listing.widths[1]) == (0, 0, 8)
    with pytest.raises(DataError, match=reason):
        list_images(root)
    stored = converted(root, Encoding())
    assert (stored.status, stored.reason) == (Status.SKIPPED, reason)


def test_how_many_pixels_a_byte_may_stand_for_is_the_users_choice(tmp_path):
    root = folder_of(tmp_path / "images", bomb(640, 480))
    pixels_per_byte = 640 * 480 / (root / "class/0.jpg").stat().st_size
    assert 100 < pixels_per_byte < 1000
    for limit, bad in ((pixels_per_byte - 1, True), (pixels_per_byte + 1, False)):
        listing: Listing = list_images(root, on_bad="keep", pixels_per_byte=limit)
        assert list(listing.bad) == [0] * bad
        assert (converted(root, Encoding(pixels_per_byte=limit)).status == Status.SKIPPED) == bad


@pytest.mark.parametrize(
    ("format_", "how"),
    [("JPEG", {}), ("JPEG", {"optimize": True}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {})],
)
def test_one_colour_may_be_coded_in_few_bytes(tmp_path, format_, how):
    content = white(8000, format_, **how)
    assert len(content) < 1_000_000
    root = folder_of(tmp_path / "images", content)
    assert list_images(root).widths[0] == 8000
