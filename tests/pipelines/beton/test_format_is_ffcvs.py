"""The types that we state are ffcv's, and reading a .beton does not import it."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.beton import format as beton_format

ROOT = Path(__file__).parents[3]


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
