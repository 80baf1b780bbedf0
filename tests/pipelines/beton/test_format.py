"""The header that we write is one that FFCV's own Reader understands, and its numbers are where we read them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ffcv", reason="the .beton's types are ffcv's: pip install -e '.[ffcv]'")

from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader

from pipelines.beton import format as beton_format


@pytest.fixture
def empty_rows(tmp_path: Path) -> Path:
    """A file of two rows without bytes."""
    metadata = np.zeros(2, beton_format.METADATA)
    columns = beton_format.columns(metadata)
    columns["label"][:], columns["index"][:] = [3, 4], [7, 9]
    columns["image"]["mode"] = [beton_format.JPEG, beton_format.RAW]
    table = beton_format.METADATA_START + metadata.nbytes
    path = tmp_path / "two.beton"
    allocations = np.zeros(2, beton_format.ALLOC_TABLE_TYPE)
    path.write_bytes(beton_format.header(2, 1 << 23, table) + metadata.tobytes() + allocations.tobytes())
    return path


def test_ffcvs_reader_finds_the_fields_and_the_rows(empty_rows: Path) -> None:
    reader = Reader(str(empty_rows))
    found = {name: type(handler) for name, handler in reader.handlers.items()}
    assert found == {"image": RGBImageField, "label": IntField, "index": IntField}
    assert list(found) == list(beton_format.FIELDS)
    assert (int(reader.num_samples), int(reader.page_size)) == (2, 1 << 23)
    columns = beton_format.columns(reader.metadata)
    assert columns["label"].tolist() == [3, 4]
    assert columns["index"].tolist() == [7, 9]
    assert columns["image"]["mode"].tolist() == [0, 1]  # FFCV's numbers for a JPEG and for pixels


def test_rows_and_table_are_read_back(empty_rows: Path) -> None:
    content = empty_rows.read_bytes()
    table = beton_format.METADATA_START + 2 * beton_format.METADATA.itemsize
    assert beton_format.rows_and_table(content) == beton_format.rows_and_table(content[:24]) == (2, table)
    with pytest.raises(ValueError, match="buffer"):
        beton_format.rows_and_table(content[:23])
