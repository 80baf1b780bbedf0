"""``python -m bench convert`` from end to end on a tiny corpus."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.convert import contestants as convert
from bench.yardsticks.ffcv_writer import FfcvWriter
from tests.support.installed import installed


class StandIn:
    """Takes the place of FFCV's writer, whose package takes ten seconds to import."""

    def __init__(self, root: Path, beton: Path, resolution: int, workers: int, indices: list[int]) -> None:
        self._images = len(indices)

    def convert(self) -> int:
        return self._images

    def close(self) -> None:
        pass


@pytest.mark.parametrize("writer", [StandIn, pytest.param(FfcvWriter, marks=pytest.mark.soak)])
def test_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, writer: type
) -> None:
    if writer is FfcvWriter and not installed("ffcv"):
        pytest.skip("FFCV's own writer is a contestant: pip install -e '.[ffcv]'")
    monkeypatch.setattr(convert, "FfcvWriter", writer)
    options = ["--images", "24", "--rounds", "1", "--threads", "2", "--memory", "5"]
    assert main(["convert", *options, "--corpus", str(tmp_path / "corpus"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads(next((tmp_path / "out").glob("convert_*.json")).read_text())
    units = {each["name"]: [sample["units"] for sample in each["samples"]] for each in found["measurement"]["series"]}
    some = [convert.DECODE, convert.DECODED, convert.UNCOMPARED, convert.PLANES, convert.FFCV, convert.SHRUNK]
    assert units == {convert.COPY: [24], convert.COPY_AHEAD: [24], convert.KEPT: [24], **{name: [6] for name in some}}
    assert found["settings"]["peak memory, 5 small files"].endswith(" MiB")
    assert convert.KEPT in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "corpus").iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--images", "0"])
    assert "whole number from 1" in capsys.readouterr().err
