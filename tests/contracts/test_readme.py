"""README is short, its file map is the tree, and its numbers are those of the committed reports."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES, WORDS, WORDS_OF_A_PARAGRAPH = 130, 1200, 60


def on_the_map() -> set[str]:
    """The map's files and folders, as paths; a folder ends in a slash."""
    section = README.split("## Where things are")[1].split("```")[1]
    paths, folder = set(), ""
    for line in section.splitlines():
        names = re.findall(r"(?<!\S)[\w./-]+(?:\.\w+|/)(?=\s|$)", line)
        if not line.startswith(" "):
            folder = names[0] if names and names[0].endswith("/") else ""
            paths |= {folder} - {""}
            names = names[1:] if folder else names
        paths |= {folder + name for name in names}
    return paths


def tracked() -> list[Path]:
    """Files of the project, whether or not they are committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listed if (ROOT / name).exists()]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LINES
    assert len(README.split()) <= WORDS
    for paragraph in markdown.paragraphs(README):
        assert len(paragraph.split()) <= WORDS_OF_A_PARAGRAPH, paragraph


def test_everything_on_the_map_exists():
    missing = [path for path in on_the_map() if not (ROOT / path).exists()]
    assert not missing, f"README's map names {missing}, which the tree has not"


@pytest.mark.parametrize("package", ["debiaspl", "pipelines", "tools"])
def test_every_module_is_on_the_map_or_in_a_folder_that_is(package):
    paths = on_the_map()
    for path in tracked():
        if path.parts[0] == package and path.name != "__init__.py":
            folder = "/".join(path.parts[:2]) + "/"
            assert str(path) in paths or folder in paths, f"README's map lacks {path}"


@pytest.mark.parametrize("package", ["bench", "tests"])
def test_every_room_is_on_the_map(package):
    mirrored = {"debiaspl", "pipelines", "bench", "tools"} if package == "tests" else set()
    rooms = {path.parts[1] for path in tracked() if path.parts[0] == package and len(path.parts) > 2} - mirrored
    assert {f"{package}/{room}/" for room in rooms} <= on_the_map()


def test_every_name_at_the_root_is_on_the_map():
    section = README.split("## Where things are")[1].split("```")[1]
    for name in {path.parts[0] for path in tracked()}:
        assert name.startswith(".") or re.search(rf"^(.*  )?{re.escape(name)}\b", section, re.MULTILINE), name


def newest(theme: str) -> dict:
    """The newest committed report of a bench."""
    path = max((ROOT / "bench/reports").glob(f"{theme}_*.json"), key=lambda each: each.stem[-10:])
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md"])
def test_the_demos_numbers_are_the_newest_reports(page):
    text = (ROOT / page).read_text(encoding="utf-8").replace("**", "")
    measured = newest("demo")["balanced_accuracy_percent"]
    for name, accuracies in measured.items():
        mean, each = f"{sum(accuracies) / len(accuracies):.1f}", ", ".join(f"{value:.1f}" for value in accuracies)
        assert f"| {mean} | {each} |" in text, f"{page} does not give {name}: {mean}, {each}"


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md", "docs/pipelines.md"])
def test_the_loaders_numbers_are_the_newest_reports(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    summary = newest("loader")["summary"]
    for name in ("torchvision", "dali", "ffcv"):
        rate = f"{summary[name]['rate']['median']:,.0f}"
        assert f"| {rate} |" in text, f"{page} does not give {name}: {rate}"
