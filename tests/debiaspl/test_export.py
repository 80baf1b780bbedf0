"""Exported networks: other libraries load them without a name too few or too many, and find the same logits."""

import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiaspl.checkpoint_file import BEST, packed, read
from debiaspl.distributed import Ranks
from debiaspl.export import main
from debiaspl.models.classifier import Classifier
from debiaspl.predict import main as predict
from debiaspl.using.exporting import published_tensors
from debiaspl.using.snippets import SUFFIXES
from debiaspl.using.trained import open_trained
from debiaspl.weights_file import write_safetensors
from pipelines.errors import UserError
from pipelines.samples.reading import ORIENTATION

TIMM = {"test_resnet": "fc", "test_vit": "head", "test_efficientnet": "classifier", "test_convnext": "head.fc"}
"""timm's own tiny networks, and what it calls their last layers."""


def random_classifier(arch: str, classes: int, size: int) -> Classifier:
    """A network whose BatchNorm statistics, too, are those of no other."""
    torch.manual_seed(0)
    network = Classifier(arch, classes, 0.3, size)
    for name, tensor in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.add_(torch.rand_like(tensor))
    return network.to(memory_format=torch.channels_last).eval()


def normalised(network: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.permute(0, 3, 1, 2) - network.mean) / network.std


def compared(network: Classifier, arch: str, other: torch.nn.Module, path: Path, size: int) -> None:
    """The other library's network loads the file strictly and gives the same logits."""
    from safetensors.torch import load_file

    write_safetensors(path, published_tensors(network, arch), {"classes": "[]"})
    assert str(other.load_state_dict(load_file(path), strict=True)) == "<All keys matched successfully>"
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = network(pixels), other.eval()(normalised(network, pixels))
    assert expected.shape == (2, 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvision_and_timm_load_the_weights_strictly(arch, tmp_path):
    import torchvision

    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = random_classifier(arch, 7, 64)
    for other in (torchvision.models.get_model(arch, num_classes=7), timm.create_model(arch, num_classes=7)):
        compared(network, arch, other, tmp_path / "w.safetensors", 64)


@pytest.mark.parametrize("name", TIMM)
def test_timm_loads_its_own_networks_strictly(name, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = random_classifier(f"timm/{name}", 7, 160)
    assert f"{TIMM[name]}.weight" in published_tensors(network, f"timm/{name}")
    compared(network, f"timm/{name}", timm.create_model(name, num_classes=7), tmp_path / "w.safetensors", 160)


def test_a_network_with_two_last_layers_has_no_such_names():
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(UserError, match="several last layers in timm"):
        published_tensors(random_classifier("resnet8-small", 7, 16), "timm/deit_tiny_distilled_patch16_224")


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(request, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of each format, in the folder of a checkpoint, and what the command printed."""
    if request.param == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason=f"{package} is not installed")
    run = tmp_path_factory.mktemp(request.param) / "run"
    run.mkdir()
    shutil.copy(trained_run / BEST, run)
    with redirect_stdout(io.StringIO()) as printed:
        assert main([str(run), "--format", request.param]) == 0
    (path,) = (path for path in run.iterdir() if path.name != BEST)
    assert path.name == f"model{SUFFIXES[request.param]}"
    return path, printed.getvalue()


def test_the_printed_lines_say_what_predict_says(exported, few_data, tmp_path, monkeypatch, capsys):
    path, said = exported
    monkeypatch.chdir(tmp_path)
    picture = sorted((few_data / "val").rglob("*.jpg"))[17]
    (tmp_path / "pictures").mkdir()
    shutil.copy(picture, tmp_path / "pictures/a.jpg")
    shutil.copy(picture, tmp_path / "picture.jpg")
    assert predict([str(path.parent), "pictures", "--out", "labels.csv"]) == 0
    with Path("labels.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(said.split("It is used so:\n")[1], "snippet", "exec"), {})
    assert printed.getvalue() == f"{row['label']}\n"


def test_the_lines_read_a_picture_as_the_network_does(trained_run, tmp_path, monkeypatch):
    """A transparent one, on its side, for a network that was trained on turned pictures on white."""
    monkeypatch.chdir(tmp_path)
    content = read(trained_run / BEST)
    content["recipe"]["science"] |= {"alpha": "white", "exif": "turn"}
    Path("run.pt").write_bytes(packed(content))
    Path("pictures").mkdir()
    (exif := Image.Exif())[ORIENTATION] = 6
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    colours[:10, :, 3] = 0
    Image.fromarray(colours, "RGBA").save("pictures/a.png", exif=exif)
    shutil.copy("pictures/a.png", "picture.jpg")
    assert predict(["run.pt", "pictures", "--out", "labels.csv"]) == 0
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["run.pt"]) == 0
    lines = (
        printed.getvalue().split("It is used so:\n")[1].replace("print(", "found = (logits.softmax(1).max().item(), ")
    )
    exec(compile(lines, "snippet", "exec"), names := {})
    with Path("labels.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert names["found"] == (pytest.approx(float(row["confidence"]), abs=1e-5), row["label"])


@pytest.mark.parametrize("exported", ["torch", "onnx"], indirect=True)
def test_programs_take_any_number_of_images_and_name_the_classes(exported, trained_run):
    path, said = exported
    trained = open_trained(trained_run)
    network = trained.network(trained.choice("auto"), Ranks())
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        notes = session.get_modelmeta().custom_metadata_map
        assert (session.get_inputs()[0].type, session.get_inputs()[0].shape[1:]) == ("tensor(uint8)", [16, 16, 3])
        assert "differ from PyTorch's by at most" in said
    else:
        program = torch.export.load(path, extra_files=(notes := {"classes": ""})).module()
    assert json.loads(notes["classes"]) == trained.classes
    for count in (1, 5):
        pixels = torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8)
        with torch.no_grad():
            expected = network(pixels)
            if path.suffix == ".onnx":
                found = torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])
            else:
                found = program(pixels)
        assert float((found - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize("kind", ["suffix", "folder", "statistics"])
def test_what_cannot_be_written_is_said(trained_run, tmp_path, capsys, kind):
    out = {"suffix": "a.onnx", "folder": "none/a.safetensors"}.get(kind, "a.safetensors")
    run = trained_run
    if kind == "statistics":  # they come from the checkpoint: without three of them it is damaged
        run = tmp_path / "x.pt"
        content = read(trained_run / BEST)
        run.write_bytes(packed({**content, "about": {**content["about"], "mean": [0.5]}}))
    assert main([str(run), "--out", str(tmp_path / out)]) == 2
    words = {"suffix": "ends in .safetensors", "folder": "cannot be written", "statistics": "is damaged"}
    assert words[kind] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".pt"] == []
