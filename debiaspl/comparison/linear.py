"""The method 'linear': a frozen trunk with given weights, and logistic regression on the labeled images' features."""

import json
from pathlib import Path

from debiaspl import distributed
from debiaspl.build import build_network
from debiaspl.comparison.results import LINEAR_FILE
from debiaspl.comparison.trainings import Training
from debiaspl.config import ConfigError, Recipe
from debiaspl.data import open_labeled, open_validation, read_data
from debiaspl.evaluation.features import extract_features
from debiaspl.import_weights import import_weights
from pipelines.files import replacing


def require_weights(recipe: Recipe) -> None:
    """Raises ConfigError where the recipe names no weights, without which a frozen trunk knows nothing."""
    if not recipe.science.init:
        raise ConfigError(
            "The method linear trains a head on a frozen trunk, so it needs weights. Name a file with --init, or leave "
            "linear out of --methods."
        )


def run_linear(training: Training) -> None:
    """Fits the head and writes its accuracies to the training's folder. Seeds share weights and head."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    recipe = training.recipe
    require_weights(recipe)
    split, validation = read_data(recipe)
    ranks = distributed.join(recipe.engine.device)
    network = build_network(recipe, len(validation.classes), ranks).eval()
    import_weights(network.get_submodule("trunk"), Path(recipe.science.init))
    bank, queries = open_labeled(recipe, split, ranks), open_validation(recipe, validation, ranks)
    try:
        features, index = (table.numpy() for table in extract_features(network, bank, ranks.device))
        asked, asked_index = (table.numpy() for table in extract_features(network, queries.source, ranks.device))
    finally:
        bank.close()
        queries.source.close()
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    head.fit(features, split.labels[index])
    truth, guess = validation.labels[asked_index], head.predict(asked)
    accuracies = {"top1": accuracy_score(truth, guess), "balanced": balanced_accuracy_score(truth, guess)}
    content: dict[str, str | float] = {"experiment": recipe.experiment(split.fingerprint)}
    content |= {name: 100 * float(value) for name, value in accuracies.items()}
    training.folder.mkdir(parents=True, exist_ok=True)
    with replacing(training.folder / LINEAR_FILE) as building:
        building.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
