"""One's own pictures in folders; the numbers that depend on them are chosen by debiaspl/own_data.py."""

from debiaspl.config import Engine, Recipe, Science

OWN = "own"


def own() -> Recipe:
    """DebiasPL on your own pictures in folders: it looks at them, and says what it chose and how to change it.

    python -m debiaspl.train --recipe own --data pictures
    """
    science = Science(
        crop_scale=(0.4, 1.0),
        alpha="white",
        exif="turn",
        arch="resnet8-small",
        dropout=0.0,
        ema=0.98,
        labeled_batch=8,
        mu=4,
        group=1,  # any batch divides; own_data.py chooses both
        tau=0.4,
        threshold=0.8,
        phat_momentum=0.99,
        lambda_u=2.0,
        lambda_cld=0.1,
        compat="paper",
        lr=0.05,
        weight_decay=5e-4,
    )
    return Recipe(OWN, science, Engine(data="pictures", log_every=1))
