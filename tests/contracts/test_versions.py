"""pyproject.toml's ranges and constraints.txt's exact versions fit each other; whatever installs takes the latter."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = {
    canonicalize_name(wanted.name): wanted
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for wanted in map(Requirement, group)
}


def pinned() -> dict[str, Version]:
    """Package → the exact version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = {}
    for requirement in map(Requirement, (line for line in lines if line and not line.startswith("#"))):
        (only,) = requirement.specifier
        assert only.operator == "=="
        found[canonicalize_name(requirement.name)] = Version(only.version)
    return found


def test_the_same_packages_are_in_both():
    assert pinned().keys() == WANTED.keys()


@pytest.mark.parametrize("package", WANTED)
def test_the_tested_version_lies_in_a_range_that_allows_others(package):
    specifier, version = WANTED[package].specifier, pinned()[package]
    assert version in specifier
    assert all(each.operator in (">=", "<", "!=") for each in specifier), "an exact version belongs in constraints.txt"


def needed_by(package: str) -> set[str]:
    """Names of all distributions that a package, as it is installed here, cannot do without."""
    found, left = set[str](), [package]
    while left:
        for wanted in map(Requirement, requires(left.pop()) or []):
            name = canonicalize_name(wanted.name)
            if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                found.add(name)
                left.append(name)
    return found


def test_nothing_but_torch_itself_brings_a_torch():
    """What needs exactly one torch, as torchvision does, would replace the user's own."""
    core = [Requirement(line).name for line in PROJECT["dependencies"]]
    assert [name for name in core if "torch" in needed_by(name)] == []
    assert "torch" in needed_by("torchvision")


def test_a_users_own_torch_and_python_are_in_range():
    torch = WANTED["torch"].specifier
    assert all(version in torch for version in ("2.11.0", "2.13.0", "2.15.0"))
    assert "2.10.0" not in torch
    python = SpecifierSet(PROJECT["requires-python"])
    assert all(version in python for version in ("3.11", "3.12", "3.13"))
    assert "3.10" not in python


@pytest.mark.parametrize("name", ["Makefile", "tools/install.sh"])
def test_whatever_installs_takes_the_tested_versions(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    installs = re.findall(r"pip\"? install .*-e .*", text)
    assert installs
    assert all("-c constraints.txt" in line for line in installs), installs


def test_conda_takes_the_tested_versions():
    assert "- -c constraints.txt" in (ROOT / "environment.yml").read_text(encoding="utf-8")
