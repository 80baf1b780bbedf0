"""The class of each picture in a folder, by a trained network, as a table and as a contact sheet."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from debiaspl import distributed
from debiaspl.build import compute_dtype
from debiaspl.config import Recipe
from debiaspl.data import open_pictures
from debiaspl.distributed import Ranks
from debiaspl.evaluation.guesses import Guesses, guess
from debiaspl.report.contact_sheet import sheets
from debiaspl.report.page import write_page
from debiaspl.using.pipeline_choice import for_folder
from debiaspl.using.trained import Trained, open_trained
from pipelines import console
from pipelines.beton.sidecar import read_sidecar, sidecar_path
from pipelines.errors import UserError
from pipelines.files import write_csv
from pipelines.names import readable
from pipelines.samples.bad_files import NAMED, BadFiles
from pipelines.samples.listing import Listing, list_images


def predict(run: Path, folder: Path, options: argparse.Namespace) -> None:
    """Writes the class of each picture below ``folder``; ``options`` as debiaspl.predict's parser gives them.

    Raises UserError where the checkpoint or the folder cannot be used, or the results cannot be written.
    """
    for path in (options.out, options.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"There is no folder {path.absolute().parent} to write {path.name} to. Make it first.")
    trained = open_trained(run, f"{options.which}.pt", options.set)
    recipe = for_folder(trained.recipe, folder, options.pipeline)
    ranks = distributed.join(recipe.engine.device)
    try:
        if ranks.world > 1:
            raise UserError("Predictions are made by one process. Start the command without torchrun.")
        listing = _list(recipe, folder)
        model = trained.choice(options.model)
        guesses, skipped = _guess(trained, recipe, model, listing, ranks)
    finally:
        distributed.leave()
    try:
        _write(options, listing, guesses, skipped, trained.classes)
    except OSError as error:
        raise UserError(f"The predictions cannot be written: {error.strerror or error} ({error.filename}).") from error
    _say(options, trained, model, listing, guesses, skipped)


def _list(recipe: Recipe, folder: Path) -> Listing:
    """Returns the listing of a folder of pictures, whose labels, if it has class folders, are withheld.

    It has classes only where its .beton was made with them: the samples of the two are in another order.
    """
    labeled = False
    beton = Path(recipe.engine.data, recipe.engine.val_beton)
    if recipe.engine.pipeline == "ffcv" and beton.is_file() and sidecar_path(beton).is_file():
        labeled = bool(read_sidecar(beton)["classes"])
    limit = recipe.engine.pixels_per_byte
    return list_images(
        folder, labeled=labeled, on_bad="keep", pixels_per_byte=limit, reading=recipe.science.reading
    ).without_labels()


def _guess(
    trained: Trained, recipe: Recipe, model: str, listing: Listing, ranks: Ranks
) -> tuple[Guesses, Mapping[int, str]]:
    """Returns the guesses for all pictures, and what is wrong with each that has none."""
    bad_files = BadFiles(listing, 1.0)
    network = trained.network(model, ranks)
    source = open_pictures(recipe, listing, ranks, bad_files)
    try:
        dtype, classes = compute_dtype(recipe, ranks), len(trained.classes)
        guesses = guess({model: network}, source, len(listing), classes, ranks, dtype)[model]
    finally:
        source.close()
    return guesses, dict(sorted(bad_files.known.items()))


def _write(
    options: argparse.Namespace, listing: Listing, guesses: Guesses, skipped: Mapping[int, str], classes: list[str]
) -> None:
    """Writes the table, the list of skipped files where there are some, and the contact sheet where it is wanted."""
    best = [f"{name}_{place}" for place in range(1, guesses.label.shape[1] + 1) for name in ("label", "confidence")]
    rows = []
    for row in np.flatnonzero(guesses.seen).tolist():
        ranked = [
            (classes[label], f"{sure:.6f}")
            for label, sure in zip(guesses.label[row], guesses.confidence[row], strict=True)
        ]
        rows.append([listing.paths[row], *ranked[0], *(cell for pair in ranked for cell in pair)])
    write_csv(options.out, ["file", "label", "confidence", *best], rows)
    left = options.out.with_name(f"{options.out.name.removesuffix('.csv')}.skipped.csv")
    if skipped:
        write_csv(left, ["file", "reason"], [[listing.paths[row], why] for row, why in skipped.items()])
    else:
        left.unlink(missing_ok=True)  # of an earlier prediction of the same name
    if options.html is not None:
        shown = sheets(listing, guesses.label[:, 0], guesses.confidence[:, 0], guesses.seen, classes)
        write_page(options.html, f"Predictions for {listing.root}", shown)


def _say(
    options: argparse.Namespace,
    trained: Trained,
    model: str,
    listing: Listing,
    guesses: Guesses,
    skipped: Mapping[int, str],
) -> None:
    progress = trained.content["progress"]
    console.say(f"{model} of {readable(trained.path)}, after {progress['step']} steps")
    console.say(f"{int(guesses.seen.sum())} pictures → {readable(options.out)}")
    if options.html is not None:
        console.say(f"contact sheet → {readable(options.html)}")
    if skipped:
        console.say(f"{len(skipped)} cannot be decoded and have no row:", error=True)
        for row, why in list(skipped.items())[:NAMED]:
            console.say(f"  {listing.path(row)}: {why}", error=True)
        if len(skipped) > NAMED:
            console.say(f"  … and {len(skipped) - NAMED} more", error=True)
