"""All ways of exchanging gradients are measured side by side, and the arithmetic is that of a ring."""

import json

import pytest

from bench import __main__ as bench
from bench.step.exchange import WAYS
from bench.step.ranks import arithmetic


@pytest.mark.soak
def test_a_tiny_run_leaves_a_report(tmp_path, capsys):
    """The ranks themselves check that every way gives the same sums before they answer."""
    words = "--arch resnet8-small --size 8 --crops 2 --steps 1 --rounds 2"
    assert bench.main(["ranks", *words.split(), "--out", str(tmp_path)]) == 0
    (raw,) = tmp_path.glob("ranks_*.json")
    content = json.loads(raw.read_text())
    assert [series["name"] for series in content["measurement"]["series"]] == list(WAYS)
    assert content["settings"]["arch"] == "resnet8-small"
    assert "python -m bench ranks --arch resnet8-small --size 8" in raw.with_suffix(".md").read_text()


def test_arithmetic_of_a_ring():
    rows = {row[0]: row for row in arithmetic().rows}
    # 25,557,032 · 4 bytes · 14/8 = 178.9 MB over 20 GB/s
    assert float(rows["PCIe 4.0 x16, A100"][2]) == pytest.approx(8.94, abs=0.01)
    assert rows["PCIe 4.0 x16, A100"][4] == "19.9%"
