"""What ``debiaspl.evaluate`` prints and writes: a table over networks and folders, and one network's classes."""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from debiaspl import continuing, distributed
from debiaspl.build import compute_dtype
from debiaspl.data import open_labeled, open_validation, read_data
from debiaspl.distributed import Ranks
from debiaspl.evaluation import bias
from debiaspl.evaluation.detail import PER_CLASS, Detail, balanced_over, detail, per_class, thirds, worst
from debiaspl.evaluation.features import extract_features
from debiaspl.evaluation.guesses import guess
from debiaspl.models.classifier import Classifier
from debiaspl.using import evaluation_files
from debiaspl.using.trained import Trained, open_trained
from debiaspl.using.validation import Evaluated, Validation, open_folder, own
from pipelines import console
from pipelines.errors import UserError
from pipelines.names import readable
from pipelines.samples.split import Split

_SHOWN = 30
"""Classes that the terminal lists; of more, the ones with the lowest accuracy."""


def report(options: argparse.Namespace) -> None:
    """Evaluates and prints; ``options`` as debiaspl.evaluate's parser gives them. Raises UserError."""
    flags = {"engine.data": options.data, "engine.pipeline": options.pipeline}
    sets = [f"{name}={value}" for name, value in flags.items() if value is not None] + options.set
    trained = open_trained(options.run, f"{options.which}.pt", sets)
    ranks = distributed.join(trained.recipe.engine.device)
    try:
        split = None
        if options.knn or not options.val:
            split, listing = read_data(trained.recipe)
            _check_split(trained, split)
        validations = [open_folder(each, trained.recipe, trained.classes, options.pipeline) for each in options.val]
        results = evaluated(trained, validations or [own(trained.recipe, listing)], split, ranks, options.knn)
    finally:
        distributed.leave()
    if ranks.is_main:
        _show(trained, results, split, trained.choice(options.model))
        evaluation_files.write(options, trained, results, trained.choice(options.model))


def evaluated(
    trained: Trained, validations: Sequence[Validation], split: Split | None, ranks: Ranks, with_knn: bool
) -> list[Evaluated]:
    """Returns what came out of both networks on each folder. Every rank must call it; ``split`` is needed for kNN."""
    models = {name: trained.network(name, ranks) for name in ("student", "teacher")}
    classes, results = len(trained.classes), []
    for each in validations:
        images, among = open_validation(each.recipe, each.listing, ranks), each.among(len(trained.classes))
        only = None if among is None else torch.from_numpy(among).to(ranks.device)
        try:
            dtype = compute_dtype(each.recipe, ranks)
            guesses = guess(models, images.source, len(each.listing), classes, ranks, dtype, only)
        finally:
            images.source.close()
        knn = _knn(models, each, split, classes, ranks) if with_knn and split is not None else {}
        results += [
            Evaluated(each, name, found, detail(found, each.truth, classes), knn.get(name))
            for name, found in guesses.items()
        ]
    return results


def _check_split(trained: Trained, split: Split) -> None:
    if trained.content["split"] != split.fingerprint:
        path = readable(trained.path)
        console.say(f"note: {path} was trained on another listing or split than the one evaluated here", error=True)
    if len(split.listing.classes) != len(trained.classes):
        raise UserError(
            f"{trained.path} tells {len(trained.classes)} classes apart, but there are {len(split.listing.classes)} in "
            f"{split.listing.root}. Name its data folder with --data, or evaluate other folders with --val."
        )


def _knn(
    models: Mapping[str, Classifier], validation: Validation, split: Split, classes: int, ranks: Ranks
) -> dict[str, float]:
    """Returns the kNN accuracy of each model's features on the images; the labeled images are the bank."""
    from debiaspl.evaluation.knn import knn_accuracy, whole_bank  # needs faiss: only where asked for

    bank, queries = open_labeled(validation.recipe, split, ranks), None
    try:
        queries = open_validation(validation.recipe, validation.listing, ranks)
        result = {}
        for name, model in models.items():
            features, index = (whole_bank(own, ranks) for own in extract_features(model, bank, ranks.device))
            asked, asked_index = extract_features(model, queries.source, ranks.device)
            labels, truth = torch.from_numpy(split.labels)[index], torch.from_numpy(validation.truth)[asked_index]
            result[name] = knn_accuracy(features, labels, asked, truth, classes, ranks=ranks)
        return result
    finally:
        bank.close()
        if queries is not None:
            queries.source.close()


def _show(trained: Trained, results: Sequence[Evaluated], split: Split | None, model: str) -> None:
    """Prints accuracies, the classes of one network on each folder, and the bias of the teacher's pseudo-labels."""
    console.show(_accuracies(trained, results))
    for each in results:
        if each.model == model:
            console.show(_classes(each, trained.classes, results))
            if (line := _thirds(each.detail, _training_images(trained, split))) is not None:
                console.say(line)
    console.show(_bias_table(trained, split))


def _accuracies(trained: Trained, results: Sequence[Evaluated]) -> Table:
    progress = trained.content["progress"]
    table = Table(
        title=Text(
            f"{readable(trained.path)}: {trained.recipe.name} after {progress['step']} steps"
            f"{continuing.note(progress)}, %"
        )
    )
    several, knn = len({id(each.validation) for each in results}) > 1, any(each.knn is not None for each in results)
    names = [*(["folder", "classes"] if several else []), "model", "top-1", "top-5", "balanced", "calibration error"]
    for column in [*names, *(["kNN"] if knn else []), "images"]:
        table.add_column(column, justify="left" if column in ("folder", "model") else "right")
    for row in evaluation_files.accuracy_rows(results, several, knn):
        table.add_row(*map(Text, map(readable, row)))
    return table


def _classes(result: Evaluated, classes: Sequence[str], results: Sequence[Evaluated]) -> Table:
    """Returns a table of the classes, those with the lowest accuracy where there are many."""
    rows = per_class(result.detail, classes)
    title = f"Classes, by the {result.model}"
    if len(results) > 2:
        title += f", on {readable(result.validation.name)}"
    if len(rows) > _SHOWN:
        title += f": the {_SHOWN} of {len(rows)} with the lowest accuracy (all with --out)"
    table = Table(title=Text(title))
    for column in PER_CLASS:
        table.add_column(column, justify="left" if column in (PER_CLASS[0], PER_CLASS[-1]) else "right")
    for row in worst(rows, _SHOWN):
        table.add_row(*map(Text, map(readable, row)))
    return table


def _training_images(trained: Trained, split: Split | None) -> NDArray[np.int64] | None:
    """Returns each class's training images, as far as they are known: labeled ones, and the true unlabeled ones."""
    labeled = None if trained.about is None else np.asarray(trained.about.labeled)
    if split is None:
        return labeled
    own, unlabeled = np.bincount(split.labels[split.labeled], minlength=len(trained.classes)), bias.true_counts(split)
    return own if unlabeled is None else own + unlabeled.astype(np.int64)


def _thirds(result: Detail, training: NDArray[np.int64] | None) -> str | None:
    """Returns a line on the classes with many, medium and few training images; None where that is not known."""
    parts = {} if training is None else thirds(training)
    values = {name: balanced_over(result, labels) for name, labels in parts.items()}
    told = [f"{name} {value:.2f}" for name, value in values.items() if value is not None]
    return (
        f"balanced accuracy by thirds of the classes, most training images first, %: {', '.join(told)}"
        if told
        else None
    )


def _bias_table(trained: Trained, split: Split | None) -> Table:
    """Returns a table of how even p̂ and the last epoch's pseudo-labels are, and how far from the truth."""
    counts = trained.content["pseudo_labels"].double().numpy()
    truth = None if split is None else bias.true_counts(split)
    table = Table(title="Bias of p̂ and of the last epoch's pseudo-labels")
    reference = "uniform" if truth is None else "the truth"
    for column in ("distribution", "Gini", f"KL from {reference}", "classes without any"):
        table.add_column(column, justify="left" if column == "distribution" else "right")
    rows = {} if truth is None else {"the truth": truth}
    rows["p̂"] = trained.content["phat"].mean(0).double().numpy()
    for at, name in ((0, "all"), (1, "above the threshold")):
        rows |= {f"{name}, before debiasing": counts[0, at], f"{name}, after": counts[1, at]}
    for name, row in rows.items():
        imbalance = bias.imbalance(row, truth)
        table.add_row(name, f"{imbalance.gini:.3f}", f"{imbalance.kl:.3f}", f"{imbalance.missing}")
    return table
