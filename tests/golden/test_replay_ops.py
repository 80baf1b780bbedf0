"""The replay of augmented pictures: silent about equal bytes, and it names what differs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.augment.ops import Op
from tests.golden.replay_ops import executors, main, parsed

HERE = Path(__file__).parent
GOLDEN = HERE / "randaugment_ops.npz"


def counts(printed: str) -> dict[tuple[str, str, str], int]:
    """(file, executor, operation) → differing bytes."""
    found = re.findall(r"^(.+): (\w+): (\w+): (\d+) bytes differ$", printed, re.MULTILINE)
    return {(file, executor, op): int(number) for file, executor, op, number in found}


@pytest.fixture
def content() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files}


def test_the_published_pictures_are_reproduced_by_every_executor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN)]) == 0
    expected = {(GOLDEN.name, executor, op.name): 0 for executor in ("pillow", "cpu") for op in Op}
    assert counts(capsys.readouterr().out) == expected


def test_other_bytes_are_counted_and_named(
    content: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content["Rotate.v3.neg"][0, 5, 6, :] += 1
    content["Invert.v9.pos"][0, 0, 0, 1] ^= 255
    np.savez(tmp_path / "wrong.npz", **content)
    assert main([str(GOLDEN), str(tmp_path / "wrong.npz")]) == 1
    found = counts(capsys.readouterr().out)
    assert {key: number for key, number in found.items() if number} == {
        ("wrong.npz", executor, op): number for executor in executors() for op, number in (("Rotate", 3), ("Invert", 1))
    }


def test_signs_and_levels_are_told_apart(content: dict[str, np.ndarray], tmp_path: Path) -> None:
    for one, other in (("Rotate.v3.neg", "Rotate.v3.pos"), ("ShearX.v5.pos", "ShearX.v6.pos")):
        np.savez(tmp_path / "swapped.npz", images=content["images"], **{one: content[other]})
        assert main([str(tmp_path / "swapped.npz")]) == 1


def test_some_operations_on_several_other_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 14, 3)).astype(np.uint8)
    np.savez(tmp_path / "some.npz", images=images, **{"Invert.v1.pos": 255 - images, "Identity.v2.neg": images})
    assert main([str(tmp_path / "some.npz")]) == 0
    assert {op for _, _, op in counts(capsys.readouterr().out)} == {"Invert", "Identity"}


def test_pictures_of_another_shape_differ(tmp_path: Path) -> None:
    images = np.zeros((2, 9, 14, 3), np.uint8)
    np.savez(tmp_path / "turned.npz", images=images, **{"Identity.v2.neg": images.transpose(0, 2, 1, 3)})
    assert main([str(tmp_path / "turned.npz")]) == 1


def test_a_file_without_pictures_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", images=np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="holds no augmented pictures"):
        main([str(tmp_path / "empty.npz")])


@pytest.mark.parametrize("key", ["Blur.v1.pos", "Rotate.v10.pos", "Rotate.v0.neg", "Rotate.v1.up"])
def test_unknown_keys_are_an_error(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(key))):
        parsed(key)


def test_it_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "replay_ops.py"), str(GOLDEN)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(counts(done.stdout)) == 2 * len(Op)
