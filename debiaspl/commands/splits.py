"""Chooses labeled and unlabeled training images and writes them as index files, bound to the data by a split file."""

import argparse
import io
import json
import shlex
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from debiaspl import startup
from pipelines import console
from pipelines.errors import DataError
from pipelines.files import replacing
from pipelines.keyed_random import LARGEST_SEED
from pipelines.names import readable
from pipelines.samples import split_file
from pipelines.samples.bad_files import bad_lines
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import UNKNOWN, Listing, list_images
from pipelines.samples.split import ClipTargets
from pipelines.samples.subsets import Chosen, by_confidence, by_count, by_percent, long_tail, tail

if TYPE_CHECKING:
    from rich.table import Table  # slow to import: --help need not wait for it

_DESCRIPTION = """\
Chooses labeled and unlabeled training images and writes them as index files, bound to the data by a split file.

    debiaspl splits percent 1                     train_1p_index.csv + train_99p_index.csv
    debiaspl splits per-class 4
    debiaspl splits long-tail --labeled 50 --labeled-gamma 20 --unlabeled 400 --unlabeled-gamma 20
    debiaspl splits confidence 0.95 --predictions guesses.csv

Files go to ROOT/indexes in the published format. <name>.split.json beside them says how they were made, of which data,
and what they must hold; training refuses them where that is no longer so. A seed gives the same files on any machine.
"""


class Plan(NamedTuple):
    """Says what to write."""

    chosen: Chosen
    names: tuple[str, str]  # stems of the labeled and the unlabeled file
    guesses: ClipTargets | None = None  # written beside the index where the labels are a model's


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; returns the exit status: 0, or 2 after a message about what to mend."""
    given = build_parser().parse_args(arguments)
    listing = list_images(given.data / "train", on_bad="keep")
    plan = _PLANS[given.rule](given, listing)
    if given.name:
        plan = plan._replace(names=(f"{given.name}_index", f"{given.name}_rest_index"))
    out = given.out or given.data / "indexes"
    _write(out, given, listing, plan)
    console.show(_table(listing, plan))
    bound = f"in {readable(out)}, bound to the data by {plan.names[0]}{split_file.SUFFIX}"
    console.say("\n".join([*bad_lines(listing), bound]))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line, one subcommand for each rule."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, default=Path("dataset/imagenet"), metavar="ROOT", help="root with train/")
    common.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: ROOT/indexes)")
    common.add_argument("--name", metavar="NAME", help="NAME_index.csv and NAME_rest_index.csv, not the default names")
    common.add_argument("--force", action="store_true", help="replace files of other content")
    drawn = argparse.ArgumentParser(add_help=False, parents=[common])
    drawn.add_argument("--seed", type=_seed, default=0, help="which images (default: 0)")

    parser = argparse.ArgumentParser(
        prog=startup.prog("splits", "python tools/make_splits.py"),
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rules = parser.add_subparsers(dest="rule", required=True, metavar="RULE")
    percent = rules.add_parser("percent", parents=[drawn], help="a share of each class, rounded, at least one image")
    percent.add_argument("percent", type=_fraction, help="as 1 or 0.2")
    rules.add_parser("per-class", parents=[drawn], help="as many labels in each class").add_argument("count", type=int)
    long = rules.add_parser("long-tail", parents=[drawn], help="class sizes that fall exponentially, in class order")
    for part in ("labeled", "unlabeled"):
        long.add_argument(f"--{part}", type=int, required=True, metavar="N", help=f"{part} images of the largest class")
        long.add_argument(f"--{part}-gamma", type=float, required=True, metavar="G", help="largest over smallest class")
    long.add_argument("--reversed", action="store_true", help="unlabeled: the last class is the largest one")
    sure = rules.add_parser("confidence", parents=[common], help="a model's confident guesses as labels (zero-shot)")
    sure.add_argument("threshold", type=float, help="probability from which a guess is a label, as 0.95")
    sure.add_argument("--predictions", type=Path, nargs="+", required=True, metavar="FILE",
                      help="CSVs with Index, PseudoLabel and Probs, or one ranked .pth.tar of all images")  # fmt: skip
    return parser


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= LARGEST_SEED):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2⁶⁴ − 1 (got {text!r})")
    return int(text)


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"must be a number (got {text!r})") from error


def _percent(given: argparse.Namespace, listing: Listing) -> Plan:
    names = (f"train_{float(given.percent):g}p_index", f"train_{float(100 - given.percent):g}p_index")
    return Plan(by_percent(listing, given.percent, given.seed), names)


def _per_class(given: argparse.Namespace, listing: Listing) -> Plan:
    stem = f"train_{given.count}perclass"
    return Plan(by_count(listing, given.count, given.seed), (f"{stem}_index", f"{stem}_rest_index"))


def _long_tail(given: argparse.Namespace, listing: Listing) -> Plan:
    classes = len(listing.classes)
    labeled = tail(classes, given.labeled, given.labeled_gamma)
    unlabeled = tail(classes, given.unlabeled, given.unlabeled_gamma, reversed_=given.reversed)
    stem = f"train_lt{given.labeled}g{given.labeled_gamma:g}_{given.unlabeled}g{given.unlabeled_gamma:g}"
    stem += "r" if given.reversed else ""
    chosen = long_tail(listing, labeled, unlabeled, given.seed)
    return Plan(chosen, (f"{stem}_labeled_index", f"{stem}_unlabeled_index"))


def _confidence(given: argparse.Namespace, listing: Listing) -> Plan:
    if not 0 <= given.threshold <= 1:
        raise DataError(f"A confidence lies within 0 and 1 (got {given.threshold:g}).")
    guesses = _guesses(given.predictions, listing)
    usable = np.setdiff1d(np.flatnonzero(guesses.label != UNKNOWN), list(listing.bad))
    chosen = by_confidence(usable, guesses.confidence[usable], given.threshold)
    stem = f"CLIPPseudoLabel{given.threshold:g}"
    return Plan(chosen, (stem, f"{stem}-Unselected"), guesses)


_PLANS = {"percent": _percent, "per-class": _per_class, "long-tail": _long_tail, "confidence": _confidence}


def _guesses(paths: list[Path], listing: Listing) -> ClipTargets:
    """Returns label and confidence of every image that the files speak of. True labels are not looked at."""
    result = ClipTargets(np.full(len(listing), UNKNOWN, np.int64), np.zeros(len(listing), np.float32))
    for path, name in zip(paths, map(readable, paths), strict=True):
        if path.suffix == ".csv":
            index, label, confidence = read_index_file(path, listing)
            if label is None or confidence is None:
                raise DataError(f"{name} has no columns PseudoLabel and Probs: there is nothing to choose by.")
        else:
            from pipelines.samples.clip_file import read_clip_file  # imports torch: seconds

            index = listing.indices
            label, confidence = read_clip_file(path, len(listing), len(listing.classes))
        if len(twice := index[result.label[index] != UNKNOWN]):
            raise DataError(f"{name} lists sample {twice[0]}, which an earlier file of --predictions lists too.")
        result.label[index], result.confidence[index] = label, confidence
    return result


def _csv(index: NDArray[np.int64], guesses: ClipTargets | None) -> bytes:
    """Returns the published format."""
    text = io.StringIO()
    if guesses is None:
        text.write("Index\n")
        text.writelines(f"{i}\n" for i in index.tolist())
    else:
        text.write("Index,PseudoLabel,Probs\n")
        rows = zip(index.tolist(), guesses.label[index].tolist(), guesses.confidence[index], strict=True)
        text.writelines(f"{i},{label},{confidence!s}\n" for i, label, confidence in rows)  # reads back the same bits
    return text.getvalue().encode()


def _write(out: Path, given: argparse.Namespace, listing: Listing, plan: Plan) -> None:
    """Writes index files, names of the listing, the split file. Raises DataError rather than replace other content."""
    for part, index in zip(("labeled", "unlabeled"), plan.chosen, strict=True):
        if not len(index):
            raise DataError(f"No image is {part} by this rule; choose another number or threshold.")
    at = readable(out)
    files = {f"{name}.csv": _csv(index, plan.guesses) for name, index in zip(plan.names, plan.chosen, strict=True)}
    sidecar = f"{plan.names[0]}{split_file.SUFFIX}"
    rule = _rule(given, listing)
    described = split_file.describe(listing, rule, _command(given), files)
    files[described["listing"]["names"]] = split_file.compressed_names(listing)
    files[sidecar] = (json.dumps(described, indent=1) + "\n").encode()
    for name in files:
        others = [path.name for path, _ in split_file.split_files_of(out / name) if path.name != sidecar]
        if others:
            raise DataError(f"{at}/{name} belongs to {others[0]}. Remove that split, or write another with --name")
    try:
        compared = {n: data for n, data in files.items() if not n.endswith(".gz")}  # bytes depend on zlib, names do not
        differing = [n for n, data in compared.items() if (out / n).exists() and (out / n).read_bytes() != data]
        if differing and not given.force:
            raise DataError(f"{at}/{differing[0]} exists with other content. Replace it with --force, or use --name")
        out.mkdir(parents=True, exist_ok=True)
        (out / sidecar).unlink(missing_ok=True)  # never an old split file beside new index files
        for name, data in files.items():  # the split file last
            with replacing(out / name) as building:
                building.write_bytes(data)
    except OSError as error:
        raise DataError(f"Cannot write to {at}: {error.strerror or error}. Name another folder with --out") from error


def _rule(given: argparse.Namespace, listing: Listing) -> dict[str, Any]:
    """Returns what the files follow from, beside the listing."""
    ignored = ("data", "out", "name", "force", "predictions")
    parameters = {name: value for name, value in vars(given).items() if name not in ignored}
    rule = {name: str(value) if isinstance(value, Fraction) else value for name, value in parameters.items()}
    return {**rule, "left_out_as_bad": len(listing.bad)}


def _command(given: argparse.Namespace) -> str:
    """Returns the command that makes these files again, but for --data and --out, which differ between machines."""
    words = ["python", "tools/make_splits.py", given.rule]
    for name, value in vars(given).items():
        if name in ("percent", "count", "threshold"):
            words.append(f"{float(value):g}")
        elif name == "predictions":
            words += ["--predictions", *(path.name for path in value)]
        elif (name == "name" and value is None) or name in ("rule", "data", "out", "force") or value is False:
            continue
        else:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def _table(listing: Listing, plan: Plan) -> "Table":
    """Returns the files with their counts, in all and per class."""
    from rich.table import Table

    table = Table(title=f"{len(listing)} images of {len(listing.classes)} classes")
    for column in ("file", "images", "per class"):
        table.add_column(column, justify="left" if column == "file" else "right", overflow="fold")
    labels = listing.labels if plan.guesses is None else plan.guesses.label
    for name, index in zip(plan.names, plan.chosen, strict=True):
        counts = np.bincount(labels[index], minlength=len(listing.classes))
        table.add_row(readable(f"{name}.csv"), f"{len(index)}", f"{counts.min()} to {counts.max()}")
    if left := len(listing) - sum(len(index) for index in plan.chosen):
        why = f"left out ({len(listing.bad)} of them bad files)" if listing.bad else "left out"
        table.add_row(why, f"{left}", "")
    return table
