"""The few lines of Python that use an exported network, as the export command prints them."""

from pathlib import Path

from debiaspl.config import Science
from pipelines.samples.reading import BACKGROUNDS, Reading

SUFFIXES = {"safetensors": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}
"""Format → the end of a file's name."""
_OF_TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101")
_VIEW = """\
{image}image = image.resize(tuple(side * {resize} // min(image.size) for side in image.size), Image.Resampling.BILINEAR)
left, top = (round((side - {size}) / 2) for side in image.size)
pixels = numpy.asarray(image.crop((left, top, left + {size}, top + {size})))[None]
"""
_ONNX = """\
import json, numpy, onnxruntime
{imports}network = onnxruntime.InferenceSession({path!r})
{view}logits = network.run(None, {{"pixels": pixels}})[0]
print(json.loads(network.get_modelmeta().custom_metadata_map["classes"])[logits.argmax()])
"""
_TORCH = """\
import json, numpy, torch
{imports}network = torch.export.load({path!r}, extra_files=(notes := {{"classes": ""}})).module()
{view}logits = network(torch.tensor(pixels))
print(json.loads(notes["classes"])[logits.argmax()])
"""
_SAFETENSORS = """\
import json, numpy, safetensors, torch{package}
{imports}file = safetensors.safe_open({path!r}, "pt")
{network}network.eval().load_state_dict({{name: file.get_tensor(name) for name in file.keys()}})
{view}mean, std = (torch.tensor(json.loads(file.metadata()[name])) for name in ("mean", "std"))
images = ((torch.tensor(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
logits = {call}
print(json.loads(file.metadata()["classes"])[logits.argmax()])
"""


def of(form: str, path: Path, science: Science, classes: int) -> str:
    """Returns the lines that print the class of picture.jpg with the file ``path`` of a format, as of --format."""
    common = {
        "path": str(path),
        "imports": f"from PIL import Image{', ImageOps' if science.reading.turns else ''}\n\n",
        "view": _VIEW.format(size=science.size, resize=science.eval_resize, image=_opened(science.reading)),
    }
    if form == "onnx":
        return _ONNX.format(**common)
    if form == "torch":
        return _TORCH.format(**common)
    package, network, call = _outside(science, classes)
    return _SAFETENSORS.format(**common, package=package, network=network, call=call)


def _opened(reading: Reading) -> str:
    """Returns the lines that open the picture as the network's own pictures were read."""
    opened = 'Image.open("picture.jpg")'
    if reading.turns:
        opened = f"ImageOps.exif_transpose({opened})"
    if reading.alpha == "drop":
        return f'image = {opened}.convert("RGB")\n'
    background = f'Image.new("RGBA", image.size, {BACKGROUNDS[reading.alpha]})'
    return f'image = {opened}.convert("RGBA")\nimage = Image.alpha_composite({background}, image).convert("RGB")\n'


def _outside(science: Science, classes: int) -> tuple[str, str, str]:
    """Returns what to import, the lines that build the network, and what is called: in whose library it is."""
    if science.arch.startswith("timm/"):
        name = science.arch.removeprefix("timm/")
        return (
            ", timm",
            f"network = timm.create_model({name!r}, num_classes={classes}{_size(science)})\n",
            "network(images)",
        )
    if science.arch in _OF_TORCHVISION:
        return (
            ", torchvision",
            f"network = torchvision.models.{science.arch}(num_classes={classes})\n",
            "network(images)",
        )
    built = f"network, features = trunks.build_trunk({science.arch!r}, {science.size})\n"
    last = f'network.add_module("fc", torch.nn.Linear(features, {classes}))\n'
    return "\nfrom debiaspl.models import trunks", built + last, "network.fc(network(images))"


def _size(science: Science) -> str:
    """Returns the argument of timm's networks that are made for one size of images."""
    from debiaspl.models import timm

    return f", img_size={science.size}" if timm.is_fixed(science.arch.removeprefix("timm/")) else ""
