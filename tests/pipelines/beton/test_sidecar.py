"""The sidecar of a .beton comes back as it was written; one that the converter did not write is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.beton.sidecar import (
    Sidecar,
    differences,
    identity_in,
    read_sidecar,
    reading_in,
    sidecar_path,
    write_sidecar,
)
from pipelines.errors import DataError
from pipelines.samples.reading import Reading

SIDECAR: Sidecar = {
    "fingerprint": "8f",
    "positions": "1a",
    "parameters": {"quality": 90, "shard": None},
    "versions": {"ffcv": "1.0.2"},
    "listed": 5,
    "asked": 4,
    "date": "2026-11-25T10:00:00+00:00",
    "classes": ["ant", "bee"],
    "count": 3,
    "bytes": 8 << 20,
    "originals": 2,
    "fates": {"kept as it is": 2, "encoded as JPEG": 0, "stored as pixels": 1, "left out": 1},
    "tables_sha256": "77",
    "left_out": [(2, "bee/züge 2.jpg", "empty file")],
}


@pytest.fixture
def beton(tmp_path: Path) -> Path:
    return tmp_path / "train.beton"


def test_it_comes_back_as_it_was_written(beton: Path) -> None:
    write_sidecar(beton, SIDECAR)
    assert sidecar_path(beton) == beton.parent / "train.beton.json"
    assert read_sidecar(beton) == SIDECAR | {"left_out": [[2, "bee/züge 2.jpg", "empty file"]]}
    assert list(json.loads(sidecar_path(beton).read_text())) == list(Sidecar.__annotations__)


def test_the_identity_is_what_shapes_the_bytes() -> None:
    assert identity_in(SIDECAR) == {
        "fingerprint": "8f",
        "positions": "1a",
        "parameters": {"alpha": "drop", "exif": "ignore", "quality": 90, "shard": None},  # the first two: as it was
        "versions": {"ffcv": "1.0.2"},
    }
    other = identity_in(SIDECAR | {"parameters": {"quality": 80, "shard": None}})
    assert differences(identity_in(SIDECAR), other) == "quality 90 (now 80)"
    assert not differences(other, other)


def test_it_says_how_its_files_were_read() -> None:
    assert reading_in(SIDECAR) == Reading()
    assert reading_in(SIDECAR | {"parameters": {"alpha": "mean", "exif": "turn"}}) == Reading("mean", "turn")
    with pytest.raises(DataError, match="alpha 'pink'"):
        reading_in(SIDECAR | {"parameters": {"alpha": "pink"}})


@pytest.mark.parametrize("key", SIDECAR)
def test_each_key_must_be_there(beton: Path, key: str) -> None:
    sidecar_path(beton).write_text(json.dumps({name: value for name, value in SIDECAR.items() if name != key}))
    with pytest.raises(DataError, match=rf"train\.beton\.json is not what the converter writes: it has no '{key}'"):
        read_sidecar(beton)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"bytes": "8388608"}, "'bytes' is '8388608', which is no int"),
        ({"fingerprint": None}, "'fingerprint' is None, which is no str"),
        ({"versions": []}, r"'versions' is \[\], which is no dict"),
        ({"classes": {}}, "'classes' is {}, which is no list"),
        ({"left_out": [[1, "a.jpg"]]}, "'left_out' lists .*, which is not an index, a path and a reason"),
        ({"left_out": [["1", "a.jpg", "empty file"]]}, "'left_out' lists"),
        ({"left_out": ["123"]}, "'left_out' lists '123'"),
    ],
)
def test_each_value_must_be_of_its_kind(beton: Path, changed: dict[str, Any], problem: str) -> None:
    sidecar_path(beton).write_text(json.dumps(SIDECAR | changed))
    with pytest.raises(DataError, match=f"is not what the converter writes: {problem}"):
        read_sidecar(beton)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"bytes"'])
def test_other_text_is_refused(beton: Path, text: str) -> None:
    sidecar_path(beton).write_text(text)
    with pytest.raises(DataError, match="is not what the converter writes"):
        read_sidecar(beton)


def test_its_absence_is_said(beton: Path) -> None:
    with pytest.raises(DataError, match=r"nothing else says what .*train\.beton was made of"):
        read_sidecar(beton)
