"""The check of Pillow's bytes: this Pillow's are the stored ones, others are named once, and every source asks."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipelines import EvaluationOrder, EvaluationView, list_images, open_source
from pipelines.augment import check, pillow
from pipelines.augment.ops import Op


@pytest.fixture(autouse=True)
def first_call() -> Iterator[None]:
    """Each test is the first one of a process that asks; afterwards nothing that it met is remembered."""
    check.warn_of_other_bytes.cache_clear()
    yield
    check.warn_of_other_bytes.cache_clear()


def test_the_tested_pillow_has_the_stored_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.digests() == check.DIGESTS
    assert set(check.DIGESTS) == {"Resize", *(op.name for op in Op)}
    assert not check.warn_of_other_bytes()
    assert capsys.readouterr().err == ""


def test_an_operation_with_other_bytes_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply = pillow.apply

    def off_by_one(op: Op, level: int, image: Image.Image) -> Image.Image:
        found = np.array(apply(op, level, image))
        found[5, 6, 0] ^= op == Op.Sharpness
        return Image.fromarray(found)

    monkeypatch.setattr(pillow, "apply", off_by_one)
    assert check.warn_of_other_bytes()
    assert check.warn_of_other_bytes()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "in Sharpness:" in said
    assert f"pip install pillow=={check.TESTED}" in said


def test_another_resize_is_named_where_a_source_is_opened(
    image_folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "DIGESTS", check.DIGESTS | {"Resize": 0})
    listing = list_images(image_folder)
    for _ in range(2):
        order = EvaluationOrder(listing.indices[:2], batch=2)
        open_source("torchvision", listing, order, EvaluationView(size=16, resize=16)).close()
    assert capsys.readouterr().err.count("other bytes than Pillow 13.0.0 in Resize:") == 1
