"""What many tests share: a small awkward ImageFolder, the demo's data, scripts loaded by path, a cache of their own."""

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.forked_runs import ForkedRuns
from tests.support.runs import REPORTS, quick, with_few_steps

# A shell's background job ignores Ctrl-C, and so would every process that its tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
PER_CLASS = 20
PNG = "bee colony/image 03.jpeg"
"""The image of ``image_folder`` that is a PNG, whatever its name says."""
GREY = "bee colony/image 05.JPG"
"""The image of ``image_folder`` that is a JPEG of one channel."""


def pytest_configure(config: pytest.Config) -> None:
    """Hides the GPU from the tests, which say what holds on a CPU, unless those with the mark gpu are asked for.

    torch computes in one thread: two that wait for each other take ten times as long where something else runs.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    expression: str = config.getoption("markexpr")
    if "gpu" not in expression or "not gpu" in expression:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache folders; all processes of a session of tests share its own."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers: kernels are compiled once
    folder = folder / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        yield


@pytest.fixture
def in_float64() -> Iterator[None]:
    """New tensors are float64 during the test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Loads a Python file of the repository that is in no package, as ``load_script("tools/make_demo_data.py")``."""

    def load(relative: str) -> ModuleType:
        path = ROOT / relative
        spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Slopes of its own colours, coarse blots, a little noise: no two are alike, and none is flat or symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    slopes = rng.uniform(-1, 1, (2, 3))
    smooth = rng.uniform(60, 190, 3) + 60 * (x[..., None] / width * slopes[0] + y[..., None] / height * slopes[1])
    blots = Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = smooth + 0.4 * (np.asarray(blots).astype(np.float64) - 128) + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def make_picture() -> Callable[[int, int, int], Image.Image]:
    """(width, height, seed) → a picture."""
    return picture


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder ``…/train`` of 60 images of 3 classes: 4:2:0 and 4:4:4, sides of 40 to 300 pixels.

    One class has a folder within it, one has names that are not ASCII and differ in case, one holds a PNG and a grey
    JPEG; files that are no images lie between them. Tests read it only.
    """
    root = tmp_path_factory.mktemp("data") / "train"
    rng = np.random.default_rng(0)
    names = [f"ant/{number}.jpg" for number in range(12)] + [f"ant/2 more/n{number:02}.jpg" for number in range(8)]
    names += [f"bee colony/image {number:02}.{'JPG' if number % 4 == 1 else 'jpeg'}" for number in range(PER_CLASS)]
    names += [f"zébu/{'Été' if number % 2 else 'étoile'} {number} ü.jpg" for number in range(PER_CLASS)]
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = rng.integers(40, 301, 2).tolist()
        image = picture(width, height, seed)
        if name == PNG:
            image.save(path, "PNG")
        elif name == GREY:
            image.convert("L").save(path, quality=90)
        else:
            image.save(path, quality=88, subsampling="4:4:4" if seed % 3 == 0 else "4:2:0")
    (root / "bee colony" / "notes.txt").write_text("not an image")
    (root / "ant" / "jpg").write_text("no suffix")
    (root / "checksums.txt").write_text("beside the classes")
    return root


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory, load_script: Callable[[str], ModuleType]) -> Path:
    """The demo's data set, smaller than usual: 16 × 16 pixels, 2 labels and 10 validation images per class."""
    out: Path = tmp_path_factory.mktemp("demo") / "demo"
    sizes = {"--labels-per-class": "2", "--val-per-class": "10", "--imbalance": "20", "--side": "16"}
    arguments = [word for option in sizes.items() for word in option]
    assert load_script("tools/make_demo_data.py").main(["--out", str(out), *arguments]) == 0
    return out


@pytest.fixture(scope="session")
def few_data(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data with three steps an epoch. Tests read it only."""
    return with_few_steps(demo_data, tmp_path_factory.mktemp("few") / "demo")


@pytest.fixture(scope="session")
def trained_run(few_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs of three steps. Tests read it only."""
    from debiaspl.train import main

    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(quick(few_data, out, *REPORTS, epochs=3)) == 0
    return out


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedRuns]:
    """Starts training runs in forked processes."""
    with ForkedRuns() as runs:
        yield runs
