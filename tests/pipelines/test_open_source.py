"""The front door: it opens the pipeline that is asked for, imports no other, and says what to install."""

import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import pipelines
from pipelines import DaliOptions, DataError, EvaluationView, MissingDependency, open_source
from pipelines.batch import Source, Views
from pipelines.errors import UserError
from pipelines.order import EvaluationOrder
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.torchvision_source import TorchvisionSource

INSTALL = {"dali": "pip install -e '.[dali]'", "ffcv": "pip install numba"}
PACKAGE = {"dali": "nvidia.dali", "ffcv": "numba"}
Open = Callable[[str], Source]


@pytest.fixture
def listing(image_folder: Path) -> Listing:
    return list_images(image_folder)


@pytest.fixture
def opening(listing: Listing) -> Open:
    def opening(name: str) -> Source:
        return open_source(name, listing, EvaluationOrder(listing.indices, batch=8), EvaluationView(8, 8))

    return opening


class _Blocker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importing ``name`` raises ``error``."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self.name else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        raise self.error

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("unreachable")


@pytest.fixture
def break_import(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Exception], None]:
    """Makes importing ``package`` fail where the named pipeline does it, as if nothing of either had been imported."""

    def break_import(pipeline: str, package: str, error: Exception) -> None:
        module = f"{pipeline}_source"
        on_dali, on_ffcv = {"pipelines.sources.dali_graph"}, {"pipelines.beton.reader", "pipelines.beton.format"}
        ours = {f"pipelines.sources.{module}"} | on_dali | on_ffcv
        for name in list(sys.modules):
            if name in ours or f"{name}.".startswith(f"{package}."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(pipelines.sources, module, raising=False)
        monkeypatch.setattr(sys, "meta_path", [_Blocker(package, error), *sys.meta_path])

    return break_import


def absent(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {package!r}", name=package)


def installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def test_the_names() -> None:
    assert pipelines.NAMES == ("torchvision", "dali", "ffcv")


def test_an_open_source_is_a_source(opening: Open) -> None:
    source = opening("torchvision")
    assert isinstance(source, TorchvisionSource)
    assert isinstance(source, Source)
    assert len(source) == 8
    source.close()


@pytest.mark.parametrize("name", ["DALI", "", "pillow", "torchvision_source"])
def test_an_unknown_name(opening: Open, name: str) -> None:
    with pytest.raises(DataError) as caught:
        opening(name)
    assert str(caught.value) == f"There is no pipeline {name!r}; there are torchvision, dali, ffcv."


@pytest.mark.parametrize(("name", "missing"), [("dali", "nvidia.dali"), ("dali", "nvidia")], ids=lambda value: value)
def test_a_missing_package_is_one_sentence_with_its_command(
    opening: Open, break_import, name: str, missing: str
) -> None:
    """Without any of NVIDIA's packages it is already ``nvidia`` that is not found."""
    break_import(name, missing, absent(missing))
    with pytest.raises(MissingDependency) as caught:
        opening(name)
    message = str(caught.value)
    assert message == f"The pipeline {name!r} needs {PACKAGE[name]}, which is not installed. Run: {INSTALL[name]}"
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    "error",
    [
        absent("a_dependency_of_it"),
        absent("nvidia.dali.backend_impl"),
        absent("nv"),
        ModuleNotFoundError("no name given"),
        ImportError("libopencv_core.so.406: cannot open shared object file"),
        OSError("libnvjpeg.so: cannot open shared object file"),
    ],
    ids=str,
)
def test_a_broken_install_is_raised_as_it_is(opening: Open, break_import, error: Exception) -> None:
    break_import("dali", PACKAGE["dali"], error)
    with pytest.raises(type(error)) as caught:
        opening("dali")
    assert caught.value is error


@pytest.mark.parametrize("name", ["dali", "ffcv"])
def test_a_missing_package_of_ours_is_no_missing_dependency(opening: Open, break_import, name: str) -> None:
    if not installed(PACKAGE[name]):
        pytest.skip(f"{PACKAGE[name]} is not installed: {INSTALL[name]}")
    break_import(name, "pipelines.augment.policy", absent("pipelines.augment.policy"))
    with pytest.raises(ModuleNotFoundError, match=r"pipelines\.augment\.policy") as caught:
        opening(name)
    assert not isinstance(caught.value, UserError)


def test_the_example_of_the_package_runs(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly the lines of its docstring, on 60 images: two epochs of three batches of 16."""
    (tmp_path / "dataset/imagenet").mkdir(parents=True)
    (tmp_path / "dataset/imagenet/train").symlink_to(image_folder)
    monkeypatch.chdir(tmp_path)
    text = textwrap.dedent(pipelines.__doc__.split("::\n\n")[1])
    assert len([line for line in text.splitlines() if line]) == 10
    names: dict[str, object] = {}
    exec(text, names)
    lines = capsys.readouterr().out.split("]\n")[:-1]
    assert [line.split()[0] for line in lines] == ["0", "0", "0", "1", "1", "1"]
    assert all(len(line.split("[")[1].split()) == 16 for line in lines)
    views = names["views"]
    assert isinstance(views, Views)
    assert views.pixels.shape == (4, 16, 224, 224, 3)
    assert views.pixels.float().std() > 1


def test_options_are_the_asked_pipelines(listing: Listing) -> None:
    order = EvaluationOrder(listing.indices, batch=8)
    with pytest.raises(TypeError):
        open_source("torchvision", listing, order, EvaluationView(8, 8), options=DaliOptions())


def test_only_the_asked_pipeline_is_imported(image_folder: Path) -> None:
    script = f"""
import sys
import textwrap
from pathlib import Path
import pipelines
assert not [name for name in sys.modules if name.startswith("pipelines.") and name.endswith("_source")]
listing = pipelines.list_images(Path({str(image_folder)!r}))
order = pipelines.EvaluationOrder(listing.indices, batch=60)
source = pipelines.open_source("torchvision", listing, order, pipelines.EvaluationView(8, 8))
assert [views.pixels.shape[1] for views in source] == [60]
source.close()
found = {{name for name in sys.modules if name.split(".")[0] in ("ffcv", "cv2") or name.startswith("nvidia.dali")}}
assert not found, found
assert [name for name in sys.modules if name.endswith("_source")] == ["pipelines.sources.torchvision_source"]
assert not [name for name in sys.modules if name.split(".")[0] == "debiaspl"]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
