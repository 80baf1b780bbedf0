"""README's file map is the tree, and the commands it names exist."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def file_map() -> str:
    section = README.split("## Where things are")[1].split("```")[1]
    assert "train.py" in section
    return section


def tracked() -> list[Path]:
    """Files of the project, whether or not they are committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listed if (ROOT / name).exists()]


def test_every_module_is_on_the_map():
    text = file_map()
    for path in tracked():
        if path.parts[0] in ("debiaspl", "pipelines", "tools") and path.name != "__init__.py":
            assert re.search(rf"(?<![\w/]){re.escape(path.name)}(?!\w)", text), f"{path} is not on README's map"


def test_everything_on_the_map_exists():
    names = {path.name for path in tracked()} | {path.parts[0] for path in tracked() if len(path.parts) > 1}
    folders = {part for path in tracked() for part in path.parts[:-1]}
    for name in re.findall(r"[\w.-]+\.(?:py|sh|md|toml|yml)\b", file_map()):
        assert name in names, f"README's map names {name}, which does not exist"
    for name in re.findall(r"([\w-]+)/", file_map()):
        assert name in folders, f"README's map names the folder {name}, which does not exist"


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (demo|test|bench|soak|lint)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names make {target}"
