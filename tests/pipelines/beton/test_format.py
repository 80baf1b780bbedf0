"""Types, header and rows of a .beton are as FFCV itself has them; reading one does not import it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.beton import format as beton_format

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[beton_format.OF_IMAGES, beton_format.OF_PLANES], ids=["images", "planes"])
def layout(request: pytest.FixtureRequest) -> beton_format.Layout:
    found: beton_format.Layout = request.param
    return found


@pytest.fixture
def empty_rows(tmp_path: Path, layout: beton_format.Layout) -> Path:
    """A file of two rows without bytes."""
    metadata = np.zeros(2, layout.metadata)
    columns = beton_format.columns(metadata, layout)
    columns["label"][:], columns["index"][:] = [3, 4], [7, 9]
    kinds = columns["kind"] if "kind" in columns else columns["image"]["mode"]
    kinds[:] = [beton_format.JPEG, beton_format.RAW]
    table = layout.start + metadata.nbytes
    path = tmp_path / "two.beton"
    allocations = np.zeros(2, beton_format.ALLOC_TABLE_TYPE)
    path.write_bytes(beton_format.header(layout, 2, 1 << 23, table) + metadata.tobytes() + allocations.tobytes())
    return path


def test_ffcvs_reader_finds_the_fields_and_the_rows(empty_rows: Path, layout: beton_format.Layout) -> None:
    pytest.importorskip("ffcv", reason="read with ffcv's own Reader: pip install -e '.[ffcv]'")
    from ffcv.fields import BytesField, IntField, RGBImageField
    from ffcv.reader import Reader

    reader = Reader(str(empty_rows))
    found = {name: type(handler) for name, handler in reader.handlers.items()}
    assert list(found) == list(layout.fields)
    assert {found[name] for name in layout.fields if name != "image"} == {IntField}
    assert found["image"] == (RGBImageField if layout is beton_format.OF_IMAGES else BytesField)
    assert (int(reader.num_samples), int(reader.page_size)) == (2, 1 << 23)
    columns = beton_format.columns(reader.metadata, layout)
    assert columns["label"].tolist() == [3, 4]
    assert columns["index"].tolist() == [7, 9]
    kinds = columns["kind"] if "kind" in columns else columns["image"]["mode"]
    assert kinds.tolist() == [0, 1]  # FFCV's numbers for a JPEG and for pixels


def test_rows_and_table_are_read_back(empty_rows: Path, layout: beton_format.Layout) -> None:
    content = empty_rows.read_bytes()
    table = layout.start + 2 * layout.metadata.itemsize
    assert beton_format.rows_and_table(content) == beton_format.rows_and_table(content[:24]) == (2, table)
    assert beton_format.layout_of(content[: beton_format.LONGEST_START]) is layout
    with pytest.raises(ValueError, match="buffer"):
        beton_format.rows_and_table(content[:23])


def test_types_are_ffcvs() -> None:
    pytest.importorskip("ffcv", reason="compared with ffcv's types: pip install -e '.[ffcv]'")
    from ffcv import types
    from ffcv.fields import BytesField, IntField, RGBImageField
    from ffcv.fields.rgb_image import IMAGE_MODES

    assert beton_format.VERSION == types.CURRENT_VERSION
    assert types.HeaderType == beton_format.HEADER
    assert types.FieldDescType == beton_format.DESCRIPTOR
    assert beton_format.ALLOC_TABLE_TYPE == types.ALLOC_TABLE_TYPE
    assert (IMAGE_MODES["jpg"], IMAGE_MODES["raw"]) == (beton_format.JPEG, beton_format.RAW)
    for layout, image in ((beton_format.OF_IMAGES, RGBImageField), (beton_format.OF_PLANES, BytesField)):
        fields = [types.TYPE_ID_HANDLER[number] for number in layout.fields.values()]
        assert fields == [image] + [IntField] * (len(fields) - 1)
        assert types.get_metadata_type([field() for field in fields]) == layout.metadata
        assert not any(bytes(field().to_binary()[0]).strip(b"\0") for field in fields if field != BytesField)
    assert not bytes(BytesField().to_binary()).strip(b"\0")  # no arguments


def test_the_pipeline_does_not_import_ffcv() -> None:
    code = "import sys, pipelines.sources.ffcv_source; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"ffcv", "cv2"} & set(done.stdout.split())
