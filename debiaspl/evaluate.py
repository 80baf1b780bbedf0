"""Evaluate a checkpoint: python -m debiaspl.evaluate runs/demo/last.pt (accuracy, bias of pseudo-labels, --knn)."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

import torch
from rich.table import Table

from debiaspl import distributed
from debiaspl.build import build_network, compute_dtype
from debiaspl.checkpoint_file import CheckpointError, read
from debiaspl.config import Recipe
from debiaspl.data import open_labeled, open_validation, read_data
from debiaspl.distributed import Ranks
from debiaspl.evaluation import bias
from debiaspl.evaluation.accuracy import evaluate
from debiaspl.models.classifier import Classifier
from debiaspl.overrides import override, restored
from pipelines import console
from pipelines.errors import UserError
from pipelines.names import readable
from pipelines.samples.listing import Listing
from pipelines.samples.split import Split

_DESCRIPTION = """Evaluates a checkpoint: accuracy on the validation images, bias of the pseudo-labels, and kNN."""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m debiaspl.evaluate", description=_DESCRIPTION)
    parser.add_argument("checkpoint", type=Path, help="a run's last.pt")
    parser.add_argument("--data", help="data folder (default: the checkpoint's)")
    parser.add_argument("--pipeline", help="data pipeline (default: the checkpoint's)")
    parser.add_argument("--knn", action="store_true", help="kNN accuracy too: labeled images as the bank")
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], help="change any field but science's"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 where something is to be mended."""
    parsed = build_parser().parse_args(arguments)
    try:
        content = read(parsed.checkpoint)
        recipe = _recipe_of(content, parsed)
        ranks = distributed.join(recipe.engine.device)
        try:
            split, validation = read_data(recipe)
            _check_split(parsed.checkpoint, content, split)
            _report(content, recipe, split, validation, ranks, parsed.knn)
        finally:
            distributed.leave()
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return 2
    return 0


def _recipe_of(content: dict[str, Any], parsed: argparse.Namespace) -> Recipe:
    """Returns the recipe that a checkpoint was trained with, its engine fields changed as asked."""
    recipe = restored(content["recipe"])
    flags = {"engine.data": parsed.data, "engine.pipeline": parsed.pipeline}
    changed = override(recipe, [f"{name}={value}" for name, value in flags.items() if value is not None] + parsed.set)
    if changed.science != recipe.science:
        raise CheckpointError("Evaluation takes a checkpoint's Science as it is; --set may change other fields only.")
    return changed


def _check_split(path: Path, content: dict[str, Any], split: Split) -> None:
    if content["split"] != split.fingerprint:
        console.say(
            f"note: {readable(path)} was trained on another listing or split than the one evaluated here", error=True
        )


def _report(
    content: dict[str, Any], recipe: Recipe, split: Split, validation: Listing, ranks: Ranks, with_knn: bool
) -> None:
    """Prints accuracy, kNN accuracy and the bias of the teacher's pseudo-labels."""
    classes, dtype = len(validation.classes), compute_dtype(recipe, ranks)
    models: dict[str, Classifier] = {}
    for name in ("student", "teacher"):
        models[name] = build_network(recipe, classes, ranks)
        models[name].load_state_dict(content[name])
        models[name].eval()

    images = open_validation(recipe, validation, ranks)
    try:
        results = evaluate(models, images.source, images.labels, classes, ranks, dtype)
        knn = _knn(models, recipe, split, validation, ranks) if with_knn else {}
    finally:
        images.source.close()
    if not ranks.is_main:
        return
    table = Table(title=f"{recipe.name} after {content['progress']['step']} steps, %")
    for column in ("model", "top-1", "balanced", *(["kNN"] if knn else [])):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, accuracy in results.items():
        cells = [f"{accuracy.top1:.2f}", f"{accuracy.balanced:.2f}", *([f"{knn[name]:.2f}"] if knn else [])]
        table.add_row(name, *cells)
    console.show(table)
    console.show(_bias_table(content, split))


def _bias_table(content: dict[str, Any], split: Split) -> Table:
    """Returns a table of how even p̂ and the last epoch's pseudo-labels are, and how far from the truth."""
    counts = content["pseudo_labels"].double().numpy()
    truth = bias.true_counts(split)
    table = Table(title="Bias of p̂ and of the last epoch's pseudo-labels")
    reference = "uniform" if truth is None else "the truth"
    for column in ("distribution", "Gini", f"KL from {reference}", "classes without any"):
        table.add_column(column, justify="left" if column == "distribution" else "right")
    rows = {} if truth is None else {"the truth": truth}
    rows["p̂"] = content["phat"].mean(0).double().numpy()
    for at, name in ((0, "all"), (1, "above the threshold")):
        rows |= {f"{name}, before debiasing": counts[0, at], f"{name}, after": counts[1, at]}
    for name, row in rows.items():
        imbalance = bias.imbalance(row, truth)
        table.add_row(name, f"{imbalance.gini:.3f}", f"{imbalance.kl:.3f}", f"{imbalance.missing}")
    return table


def _knn(
    models: dict[str, Classifier], recipe: Recipe, split: Split, validation: Listing, ranks: Ranks
) -> dict[str, float]:
    """Returns the kNN accuracy of each model's features on the validation set; the labeled images are the bank."""
    from debiaspl.evaluation.knn import extract_features, knn_accuracy  # needs faiss: only where it is asked for

    alone = replace(ranks, rank=0, world=1)  # every rank sees all images: neighbours cannot be summed up
    bank, queries = open_labeled(recipe, split, alone), open_validation(recipe, validation, alone)
    try:
        result = {}
        for name, model in models.items():
            features, index = extract_features(model, bank, ranks.device)
            asked, asked_index = extract_features(model, queries.source, ranks.device)
            result[name] = knn_accuracy(
                features,
                torch.from_numpy(split.labels)[index],
                asked,
                queries.labels.cpu()[asked_index],
                len(validation.classes),
            )
        return result
    finally:
        bank.close()
        queries.source.close()


if __name__ == "__main__":
    console.run(main)
