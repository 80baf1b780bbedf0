"""CLIP's zero-shot guess for every training image, as the index files of the zero-shot recipe and as CLIP targets.

    debiaspl clip-targets --data dataset/imagenet --class-names names.txt

Writes below <data>/indexes: CLIPPseudoLabel0.95.csv (the confident samples), CLIPPseudoLabel0.95-Unselected.csv (the
others), and, for each --unlabeled CSV or folder, <its stem>_clip_predictions_ranked.pth.tar (labels and probabilities,
ranked). Images are seen by CLIP's own preprocessing. True labels are not read.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from debiaspl import startup
from pipelines import console
from pipelines.errors import DataError, requires
from pipelines.files import replacing
from pipelines.names import readable
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import Listing, list_images

_DESCRIPTION = "CLIP's zero-shot guess for every training image, as index files and as CLIP targets."
TEMPLATES = ("a photo of a {}.", "a bad photo of a {}.", "a photo of the large {}.", "a photo of the small {}.")
"""Prompts whose text features are averaged per class."""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("clip-targets", "python tools/make_clip_targets.py"),
        description=_DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=Path("dataset/imagenet"), help="data root with train/")
    parser.add_argument("--class-names", type=Path, help="a name per line, in the order of the sorted class folders")
    parser.add_argument(
        "--unlabeled",
        type=Path,
        nargs="*",
        default=[],
        help="index files, or folders of images, that want CLIP targets",
    )
    parser.add_argument("--model", default="RN50-quickgelu", help="an open_clip model")
    parser.add_argument("--pretrained", default="openai", help="its weights: a tag of open_clip, or a file")
    parser.add_argument("--threshold", type=float, default=0.95, help="probability from which a guess is a label")
    parser.add_argument("--batch", type=int, default=256, help="images per forward")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; returns the exit status: 0, or 2 after a message about what to mend."""
    _run(build_parser().parse_args(arguments))
    return 0


def _run(a: argparse.Namespace) -> None:
    listing = list_images(a.data / "train", on_bad="keep")
    names = class_names(listing, a.class_names)
    folders = {path: list_images(path, labeled=False, on_bad="keep") for path in a.unlabeled if path.is_dir()}
    files = {path: read_index_file(path, listing).index for path in a.unlabeled if path not in folders}
    folder = a.data / "indexes"
    try:
        folder.mkdir(exist_ok=True)  # before CLIP's hours
    except OSError as error:
        raise _unwritable(folder, error) from error
    probability = predict(listing, names, a.model, a.pretrained, a.batch)
    ranked = {path: probability[index] for path, index in files.items()}
    ranked |= {path: predict(other, names, a.model, a.pretrained, a.batch) for path, other in folders.items()}
    try:
        confident = _write(folder, probability, ranked, a.threshold)
    except OSError as error:
        raise _unwritable(folder, error) from error
    console.say(f"{confident} of {len(listing)} images are labeled with probability ≥ {a.threshold:g}")


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(f"Cannot write to {readable(folder)}: {error.strerror or error}. Make room for this folder there.")


def _write(
    folder: Path, probability: NDArray[np.float32], ranked: Mapping[Path, NDArray[np.float32]], threshold: float
) -> int:
    """Writes all files and returns how many images are labeled; ``ranked`` has a table per --unlabeled file."""
    confident = probability.max(1) >= threshold
    seen = probability.any(1)
    stem = f"CLIPPseudoLabel{threshold:g}"
    write_csv(folder / f"{stem}.csv", np.flatnonzero(confident), probability)
    write_csv(folder / f"{stem}-Unselected.csv", np.flatnonzero(seen & ~confident), probability)
    for path, table in ranked.items():
        write_ranked(folder / f"{path.stem}_clip_predictions_ranked.pth.tar", table)
    return int(confident.sum())


def class_names(listing: Listing, path: Path | None) -> list[str]:
    """Returns what each class is called in a prompt: the file's lines, or the folders' names."""
    if path is None:
        return [name.replace("_", " ") for name in listing.classes]
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the class names {readable(path)}: {error}") from error
    if len(names) != len(listing.classes):
        raise DataError(f"{readable(path)} has {len(names)} names, but the data has {len(listing.classes)} classes.")
    return names


def predict(listing: Listing, names: list[str], model: str, pretrained: str, batch: int) -> NDArray[np.float32]:
    """Returns CLIP's class probabilities [N, C]; zeros, below any gate, for an image that cannot be decoded."""
    import torch  # seconds: --help need not wait for it

    with requires("open_clip", "pip install -e '.[clip]'", "CLIP"):
        import open_clip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        clip, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=pretrained, device=device)
    except Exception as error:  # open_clip and its download raise whatever they meet
        raise DataError(
            f"Cannot load CLIP {model!r} with weights {pretrained!r}: {error}. Name a file with --pretrained"
        ) from error
    tokenizer = open_clip.get_tokenizer(model)
    clip.eval()
    result = np.zeros((len(listing), len(names)), np.float32)
    with torch.inference_mode():
        text = torch.stack(
            [
                torch.nn.functional.normalize(
                    clip.encode_text(tokenizer([t.format(name) for t in TEMPLATES]).to(device)), dim=-1
                ).mean(0)
                for name in names
            ]
        )
        text = torch.nn.functional.normalize(text, dim=-1)
        for at in tqdm(batches(len(listing), batch), "CLIP", unit=" batches"):
            opened = {index: _rgb(listing.path(index)) for index in range(at.start, at.stop)}
            images = {index: preprocess(image) for index, image in opened.items() if image is not None}
            if not images:
                continue
            pixels = torch.stack([*images.values()]).to(device)
            features = torch.nn.functional.normalize(clip.encode_image(pixels), dim=-1)
            logits = clip.logit_scale.exp() * features @ text.T
            result[list(images)] = logits.float().softmax(-1).cpu().numpy()
    return result


def batches(count: int, size: int) -> list[slice]:
    """Returns slices of ``size`` items, the last one shorter, that cover ``count`` items."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _rgb(path: Path) -> Image.Image | None:
    """Returns None, and says so on stderr, where the file cannot be decoded: it keeps its row, as training expects."""
    from pipelines.augment import pillow  # imports numba

    try:
        return pillow.decode(path)
    except OSError as error:
        console.say(f"cannot be decoded, left without a guess: {readable(path)}: {error}", error=True)
        return None


def write_csv(path: Path, index: NDArray[np.int64], probability: NDArray[np.float32]) -> None:
    """Writes the published format of the zero-shot index files."""
    with replacing(path) as building, building.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Index", "PseudoLabel", "Probs"])
        rows.writerows((i, probability[i].argmax(), f"{probability[i].max():.6f}") for i in index)


def write_ranked(path: Path, probability: NDArray[np.float32]) -> None:
    """Writes the published format of CLIP targets: classes and probabilities of each row, most probable first."""
    import torch

    ranked = np.argsort(-probability, axis=1, kind="stable")
    content = {
        "preds_list": torch.from_numpy(ranked),
        "probs_list": torch.from_numpy(np.take_along_axis(probability, ranked, axis=1)),
    }
    with replacing(path) as building:
        torch.save(content, building)
