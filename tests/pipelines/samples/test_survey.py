"""What is said of files that are not what they seem, and Pillow's warnings, each kind once."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.samples import pillow_warnings, survey
from pipelines.samples.listing import Listing, list_images
from pipelines.samples.reading import ORIENTATION, Reading
from tests.support.images import photo


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A turned JPEG, two transparent PNGs, one of which is a shape drawn in alpha alone, one animated, one plain."""
    folder = tmp_path / "odd/class"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo(40, 30, 1).save(folder / "turned.jpg", exif=exif)
    photo(40, 30, 2).save(folder / "plain.jpg")
    clear = photo(40, 30, 3)
    clear.putalpha(clear.convert("L"))
    clear.save(folder / "clear.png")
    shape = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    shape.putalpha(photo(40, 30, 4).convert("L"))
    shape.save(folder / "shape.png")
    photo(40, 30, 5).save(folder / "moving.webp", save_all=True, append_images=[photo(40, 30, 6)])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder.parent


def test_each_kind_has_a_line_with_names(odd: Path) -> None:
    as_torchvision = survey.survey(list_images(odd, on_bad="keep"))
    assert as_torchvision == [
        "1 are rotated by their EXIF, which is ignored (class/turned.jpg)",
        "2 are transparent: alpha is dropped (class/clear.png, class/shape.png)",
        "1 become one colour where alpha is dropped (class/shape.png)",
        "1 are animated: the first frame is taken (class/moving.webp)",
    ]
    as_own = survey.survey(list_images(odd, on_bad="keep", reading=Reading("white", "turn")))
    assert [line.split(" (")[0] for line in as_own[:3]] == [
        "1 are rotated by their EXIF, which is heeded",
        "2 are transparent: shown on white",
        "1 would become one colour where alpha is dropped",
    ]


def test_of_many_files_some_are_looked_at(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "_MOST", 3)
    assert any(" of 2 that were looked at " in line for line in survey.survey(list_images(odd, on_bad="keep")))


def listing_of(*sides: tuple[int, int]) -> Listing:
    widths, heights = np.array(sides, np.int32).T
    names = [f"a/{number}.jpg" for number in range(len(sides))]
    return Listing(Path("/my data/train"), ("a",), names, np.zeros(len(sides), np.int64), heights, widths)


def test_large_pictures_are_named_with_their_share_and_what_converting_saves() -> None:
    line = survey.large(listing_of((400, 300), (4000, 3000), (2000, 1000)), 224)
    assert line.startswith(
        "2 pictures have more than 1 megapixel (a/1.jpg: 4000 × 3000, a/2.jpg: 2000 × 1000) and take"
    )
    shrunk = sum(448 * 448 * ratio for ratio in (3 / 4, 1 / 2)) + 400 * 300
    assert f"take {14 / 14.12:.0%} of the time" in line
    assert f"take {shrunk / 14.12e6:.0%} of that time" in line
    assert "--data '/my data' --split train --max-resolution 448" in line
    assert survey.large(listing_of((400, 300), (500, 375)), 224) == ""
    assert survey.large(listing_of(*[(400, 300)] * 100, (1200, 900)), 32) == ""  # a small share


def test_warnings_of_pillow_are_said_once_and_counted(
    odd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    palette = photo(30, 30, 7).quantize(8)
    palette.save(odd / "class/palette.png", transparency=bytes(range(8)))
    with warnings.catch_warnings(record=True) as others, pillow_warnings.counted():
        for _ in range(3):
            Image.open(odd / "class/palette.png").convert("RGB")
        warnings.warn("of something else", stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Pillow warns of a file, and reads it all the same: "
        "Palette images with Transparency expressed in bytes should be converted to RGBA images",
        "Pillow warned 3 times: Palette images with Transparency expressed in bytes should be converted to RGBA images",
    ]
    assert [str(each.message) for each in others] == ["of something else"]
