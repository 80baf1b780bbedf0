"""The demo: scanned handwritten digits, few labels, long-tailed unlabeled images; minutes on a laptop's CPU."""

from dataclasses import replace

from debiaspl.config import Engine, Recipe, Science
from debiaspl.recipes.baselines import SUPERVISED, without_debiasing


def demo() -> Recipe:
    """DebiasPL on the digits of tools/make_demo_data.py. Results over three seeds: README.

    python -m debiaspl.train --recipe demo --pipeline torchvision
    """
    science = Science(
        size=16,
        eval_resize=16,
        crop_scale=(0.5, 1.0),
        flip=False,  # a mirrored digit is another sign
        arch="resnet8-small",
        dropout=0.0,
        ema=0.97,
        labeled_batch=8,
        mu=7,
        group=4,
        tau=0.4,
        threshold=0.7,
        phat_momentum=0.99,
        lambda_u=2.0,
        lambda_cld=0.1,
        lr=0.05,
        weight_decay=5e-4,
        epochs=60,
        warmup_epochs=2,
    )
    engine = Engine(
        data="dataset/demo",
        labeled_csv=("indexes/labeled.csv",),
        unlabeled_csv=("indexes/unlabeled.csv",),
        eval_batch=250,
        log_every=1,
        compile="off",
    )
    return Recipe("demo", science, engine)


def demo_fixmatch() -> Recipe:
    """FixMatch with an EMAN teacher on the digits: the demo without debiasing, margin and CLD."""
    return without_debiasing(demo(), "demo-fixmatch")


def demo_supervised() -> Recipe:
    """Supervised training on the digits: the demo's steps on the labeled images alone."""
    base = demo()
    return replace(base, name="demo-supervised", science=replace(base.science, **SUPERVISED))
