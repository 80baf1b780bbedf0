"""Messages: what is absent or broken is told apart, and long lists end in a count."""

import pytest

from pipelines.errors import MissingDependency, UserError, first_few, is_installed, requires

COMMAND = "pip install acme"


@pytest.mark.parametrize("missing", ["acme", "acme.tools"])
def test_an_absent_package_is_one_sentence_with_its_command(missing: str) -> None:
    """Of a package in a namespace it may be the namespace that is not found."""
    with (
        pytest.raises(MissingDependency, match=r"^Ice needs acme.tools, .* not installed. Run: pip install acme$") as e,
        requires("acme.tools", COMMAND, "Ice"),
    ):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
    assert isinstance(e.value, UserError)
    assert isinstance(e.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("of its own", name="acme.tools.core"),
        ModuleNotFoundError("another", name="numpy_of_old"),
        ModuleNotFoundError("a beginning of its name", name="acm"),
        ModuleNotFoundError("no name"),
        ImportError("libacme.so: cannot open shared object file"),
    ],
    ids=str,
)
def test_a_broken_installation_is_raised_as_it_is(error: ImportError) -> None:
    with pytest.raises(type(error)) as caught, requires("acme.tools", COMMAND, "Ice"):
        raise error
    assert caught.value is error


def test_nothing_is_raised_where_nothing_is_missing() -> None:
    with requires("json", COMMAND, "Ice"):
        import json
    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, … and 1 more"), (9, "0, 1, 2, … and 6 more")]
)
def test_the_first_few_of_a_list(count: int, text: str) -> None:
    assert first_few([str(number) for number in range(count)], 3) == text
    assert first_few([str(number) for number in range(count)], 3, "\n  ") == text.replace(", ", "\n  ")


@pytest.mark.parametrize(("package", "there"), [("numpy", True), ("numpy.random", True), ("acme", False)])
def test_whether_a_package_is_installed(package: str, there: bool) -> None:
    assert is_installed(package) == there
    assert not is_installed("acme.tools")  # nor is the package above it
