"""ImageNet with 0.2 % of the labels (2 or 3 images a class); otherwise as imagenet_1p.py.

"Paper" and "re-run" as in imagenet_1p.py; not run on ImageNet with this code.
"""

from dataclasses import replace

from debiaspl.config import Recipe
from debiaspl.recipes.baselines import in_eman_setting, without_debiasing
from debiaspl.recipes.imagenet_1p import imagenet_1p


def imagenet_02p() -> Recipe:
    """DebiasPL, 0.2 % labels, 50 epochs. Paper: 51.6 top-1 (re-run: 52.0).

    torchrun --standalone --nproc_per_node 8 -m debiaspl.train --recipe imagenet-02p
    """
    base = imagenet_1p()
    engine = replace(
        base.engine,
        labeled_csv=("indexes/train_0.2p_index.csv", "indexes/train0.2p_index.csv", "train_0.2p_index.csv"),
        unlabeled_csv=("indexes/train_99.8p_index.csv", "train_99.8p_index.csv"),
    )
    return Recipe("imagenet-02p", replace(base.science, phat_momentum=0.99, lambda_cld=0.1), engine)


def imagenet_02p_clip() -> Recipe:
    """DebiasPL + CLIP, 0.2 % labels, 50 epochs. Paper: 69.6 top-1 (re-run: 69.6).

    torchrun --standalone --nproc_per_node 8 -m debiaspl.train --recipe imagenet-02p-clip
    """
    base = imagenet_02p()
    science = replace(base.science, threshold=0.7, clip=True, clip_gate=0.4)
    engine = replace(base.engine, clip_file="indexes/train_99.8p_index_clip_predictions_ranked.pth.tar")
    return Recipe("imagenet-02p-clip", science, engine)


def imagenet_02p_fixmatch() -> Recipe:
    """FixMatch with EMAN in EMAN's own setting, 0.2 % labels, 50 epochs. Paper: 43.6 top-1.

    What is known of that setting, and what is not: see imagenet_1p_fixmatch. For DebiasPL without debiasing, all else
    equal, take imagenet-02p-nodebias.

    torchrun --standalone --nproc_per_node 8 -m debiaspl.train --recipe imagenet-02p-fixmatch
    """
    return in_eman_setting(imagenet_02p(), "imagenet-02p-fixmatch")


def imagenet_02p_nodebias() -> Recipe:
    """Ablation: imagenet-02p without debiasing, margin and CLD (τ = 0, λ_cld = 0), all else equal. Not in the paper.

    torchrun --standalone --nproc_per_node 8 -m debiaspl.train --recipe imagenet-02p-nodebias
    """
    return without_debiasing(imagenet_02p(), "imagenet-02p-nodebias")
