"""Plans: keyed by the sample alone, within the image, distributed as torchvision's crops and FixMatch's RandAugment."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import transforms as torchvision_transforms

from pipelines import keyed_random
from pipelines.augment import compiled_policy, ops, pillow, policy
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan
from pipelines.errors import DataError
from pipelines.order import Draws, Stream
from pipelines.views import EvaluationView, TrainingViews

VIEWS = TrainingViews(size=32, weak=2, strong=2)
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def planned(
    views: TrainingViews | EvaluationView,
    index: Any,
    height: Any,
    width: Any,
    *,
    passes: Any = 0,
    seed: int = 4,
    stream: Stream = Stream.UNLABELED,
) -> Plan:
    """The plan of samples ``index``; sizes and passes are broadcast to them."""
    index = np.asarray(index, np.int64)
    of = [
        np.broadcast_to(np.asarray(value, kind), index.shape) for value, kind in ((height, np.int32), (width, np.int32))
    ]
    draws = Draws(index, np.broadcast_to(np.asarray(passes, np.int64), index.shape), seed, stream)
    return policy.plan(views, draws, *of)


def assert_same(one: Plan, other: Plan) -> None:
    for field, a, b in zip(Plan._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, field)


def kolmogorov_smirnov(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest difference between two samples' distribution functions."""
    at = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def chi_square(counts: NDArray[np.int64]) -> float:
    """How many standard deviations the statistic of equally likely cells lies above its mean."""
    expected, freedom = counts.sum() / counts.size, counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


# --- keys -----------------------------------------------------------------------------------------------------------


def test_pinned_plan() -> None:
    """A change of these numbers changes what every published seed means."""
    index, passes = np.array([0, 1, 1281166]), np.array([0, 3, 299])
    height, width = np.array([375, 500, 64], np.int32), np.array([500, 333, 900], np.int32)
    draws = Draws(index, passes, seed=0, stream=Stream.UNLABELED)
    plan = policy.plan(TrainingViews(weak=1, strong=1), draws, height, width)
    assert plan.crop.tolist() == [
        [[78, 87, 206, 248], [98, 45, 356, 281], [0, 407, 64, 85]],
        [[77, 141, 215, 278], [149, 61, 241, 240], [0, 407, 64, 85]],
    ]
    assert plan.flip.tolist() == [[True, True, True], [True, False, True]]
    assert [Op(op).name for op in plan.op[1].ravel()] == [
        *("TranslateY", "AutoContrast", "Rotate", "Brightness", "Color", "Brightness")
    ]
    assert plan.level[1].tolist() == [[-6, -6], [4, -9], [-5, -6]]


@pytest.mark.parametrize("views", [VIEWS, EvaluationView(32, 36)], ids=["training", "evaluation"])
def test_shapes_and_types(views: TrainingViews | EvaluationView) -> None:
    plan = planned(views, [3, 1, 2], [50, 60, 70], 80)
    v = views.count
    shapes = {"crop": (v, 3, 4), "resized": (v, 3, 2), "window": (v, 3, 2), "flip": (v, 3), "op": (v, 3, 2)}
    assert {field: getattr(plan, field).shape for field in shapes} == shapes
    assert plan.level.shape == (v, 3, 2)
    assert [plan.crop.dtype, plan.resized.dtype, plan.window.dtype] == [np.int32] * 3
    assert [plan.flip.dtype, plan.op.dtype, plan.level.dtype] == [np.bool_, np.uint8, np.int8]
    assert plan.size == 32


@pytest.mark.parametrize("views", [VIEWS, EvaluationView(32, 36)], ids=["training", "evaluation"])
def test_a_batch_is_planned_as_its_samples_one_by_one(views: TrainingViews | EvaluationView) -> None:
    rng = np.random.default_rng(0)
    index, passes = rng.integers(0, 1_281_167, 40), rng.integers(0, 300, 40)
    height, width = rng.integers(20, 700, (2, 40))
    whole = planned(views, index, height, width, passes=passes)
    for at in range(40):
        one = planned(views, index[[at]], height[[at]], width[[at]], passes=passes[[at]])
        assert_same(one, Plan(*(part[:, [at]] for part in whole[:-1]), whole.size))
    mixed = rng.permutation(40)
    shuffled = planned(views, index[mixed], height[mixed], width[mixed], passes=passes[mixed])
    assert_same(shuffled, Plan(*(part[:, mixed] for part in whole[:-1]), whole.size))


def test_the_first_views_do_not_depend_on_how_many_follow() -> None:
    more, fewer = planned(VIEWS, np.arange(20), 90, 110), planned(TrainingViews(32, weak=2), np.arange(20), 90, 110)
    assert_same(Plan(*(part[:2] for part in more[:-1]), more.size), fewer)


@pytest.mark.parametrize("changed", [{"passes": 1}, {"seed": 5}, {"stream": Stream.LABELED}, {"index": 1}], ids=str)
def test_every_word_of_the_key_counts(changed: dict[str, Any]) -> None:
    index = np.arange(0, 4000, 2)
    one = planned(VIEWS, index, 300, 400)
    key = {"index": 0, **changed}
    other = planned(VIEWS, index + key.pop("index"), 300, 400, **key)
    assert (one.crop == other.crop).all(-1).mean() < 0.002
    assert (one.flip == other.flip).mean() == pytest.approx(0.5, abs=0.03)
    assert (one.op == other.op)[2:].mean() == pytest.approx(1 / 16, abs=0.015)
    assert (one.level == other.level)[2:].mean() == pytest.approx(1 / 18, abs=0.015)


def test_views_differ() -> None:
    plan = planned(VIEWS, np.arange(4000), 300, 400)
    for a, b in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert (plan.crop[a] == plan.crop[b]).all(-1).mean() < 0.002
        assert (plan.flip[a] == plan.flip[b]).mean() == pytest.approx(0.5, abs=0.03)
    assert (plan.op[2] == plan.op[3]).mean() == pytest.approx(1 / 16, abs=0.015)


@pytest.mark.parametrize("stream", [Stream.LABELED, Stream.UNLABELED], ids=str)
def test_one_sample_gets_fresh_uniform_draws_in_every_pass(stream: Stream) -> None:
    """Along the passes, as along the samples: the labeled set is passed a thousand times."""
    passes = np.arange(4000)
    plan = planned(VIEWS, np.full(4000, 77), 300, 400, passes=passes, stream=stream)
    for view in range(4):
        boxes = np.unique(plan.crop[view], axis=0)
        assert len(boxes) > 3950  # no stretch of passes comes again; a few boxes meet by chance
        flip = plan.flip[view].astype(int)
        assert abs(chi_square(np.bincount(2 * flip[:-1] + flip[1:], minlength=4))) < 3.5
        area = plan.crop[view, :, 2].astype(float) * plan.crop[view, :, 3]
        assert abs(np.corrcoef(area[:-1], area[1:])[0, 1]) < 0.06  # the standard deviation is 0.016
    for view in (2, 3):
        for k in range(2):
            assert abs(chi_square(np.bincount(plan.op[view, :, k], minlength=16))) < 3.5
        following = 16 * plan.op[view, :-1, 0].astype(int) + plan.op[view, 1:, 0]
        assert abs(chi_square(np.bincount(following, minlength=256))) < 3.5


# --- crops ----------------------------------------------------------------------------------------------------------

SIZES = [
    (1, 1),
    (1, 500),
    (500, 1),
    (2, 3),
    (1, 2),
    (7, 7),
    (3, 900),
    (900, 3),
    (40, 300),
    (300, 40),
    (375, 500),
    (4, 5),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [SCALE, (0.001, 0.01), (1.0, 1.0)], ids=str)
def test_boxes_lie_within_the_image(size: tuple[int, int], scale: tuple[float, float]) -> None:
    views = TrainingViews(size=32, weak=2, scale=scale)
    top, left, height, width = np.moveaxis(planned(views, np.arange(500), *size).crop, -1, 0)
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= size[0]
    assert (left + width).max() <= size[1]


def test_boxes_of_training_views_are_resized_whole() -> None:
    plan = planned(VIEWS, np.arange(10), 50, 60)
    assert (plan.resized == 32).all()
    assert (plan.window == 0).all()


def test_boxes_reach_every_border() -> None:
    top, left, height, width = np.moveaxis(planned(VIEWS, np.arange(3000), 30, 40).crop, -1, 0)
    for first, extent, full in ((top, height, 30), (left, width, 40)):
        free = extent < full
        assert (first[free] == 0).any()
        assert (first + extent == full)[free].any()


class _Replayed:
    """Stands in for torch within torchvision's get_params and gives it our draws, in place of a generator's."""

    log, exp = staticmethod(torch.log), staticmethod(torch.exp)

    def __init__(self, drawn: list[float]) -> None:
        self.drawn = drawn
        self.floats = 0  # two a try: area and ratio; the place's draws are the next two of the same try
        self.places = 0

    @staticmethod
    def tensor(values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def empty(self, _: int) -> Any:
        def uniform_(low: Any, high: Any) -> torch.Tensor:
            try_, which = divmod(self.floats, 2)
            self.floats += 1
            return torch.as_tensor([float(low) + (float(high) - float(low)) * self.drawn[4 * try_ + which]]).double()

        return SimpleNamespace(uniform_=uniform_)

    def randint(self, low: int, high: int, size: tuple[int, ...]) -> torch.Tensor:
        assert low == 0
        self.places += 1
        return torch.tensor([math.floor(high * self.drawn[4 * (self.floats // 2 - 1) + 1 + self.places])])


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [(SCALE, RATIO), ((0.5, 1.0), (0.5, 2.0)), ((0.08, 1.0), (1.2, 1.9))],
    ids=["usual", "wide", "flat"],
)
def test_boxes_are_torchvisions_own_for_the_same_draws(
    monkeypatch: pytest.MonkeyPatch, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    """Tries, rounding, order of the draws, the first that fits, the fallback: torchvision's own code runs on them."""
    rng = np.random.default_rng(1)
    sides = np.concatenate([rng.integers(1, 600, (200, 2)), rng.integers(1, 12, (60, 2)), np.array(SIZES)])
    sides[200:230, 1] *= 20
    crop = planned(TrainingViews(32, scale=scale, ratio=ratio), np.arange(len(sides)), *sides.T, passes=6).crop[0]
    fallbacks = 0
    for index, (height, width) in enumerate(sides.tolist()):
        drawn = [float(keyed_random.uniform(4, Stream.UNLABELED, 6, index, 0, number)) for number in range(40)]
        replayed = _Replayed(drawn)
        with monkeypatch.context() as patch:
            patch.setattr(torchvision_transforms, "torch", replayed)
            expected = transforms.RandomResizedCrop.get_params(Image.new("L", (width, height)), scale, ratio)
        assert crop[index].tolist() == list(expected), (height, width)
        fallbacks += replayed.places == 0
    assert 5 < fallbacks < 150


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (224, 224), (60, 200)], ids=str)
def test_boxes_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    count, (full_h, full_w) = 4000, size
    image = Image.new("L", (full_w, full_h))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array(
            [transforms.RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(count)]
        )
    ours = planned(TrainingViews(size=32), np.arange(count), full_h, full_w).crop[0]

    def features(box: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        top, left, height, width = box.T.astype(np.float64)
        return {
            "area": height * width / (full_h * full_w),
            "log ratio": np.log(width / height),
            "vertical centre": (top + height / 2) / full_h,
            "horizontal centre": (left + width / 2) / full_w,
        }

    for name, values in features(ours).items():
        reference = features(theirs)[name]
        assert kolmogorov_smirnov(values, reference) < 0.0437, name  # exceeded by one of 1,000 pairs of equal samples
        assert values.mean() == pytest.approx(reference.mean(), abs=4 * values.std() * math.sqrt(2 / count)), name
    area = features(ours)["area"]
    if size == (224, 224):  # some tries fail, the large ones mostly
        assert 0.075 < area.min() < 0.09
        assert area.max() > 0.9


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (10, 1000), (1000, 10), (9, 100), (31, 997), (640, 7)], ids=str)
def test_the_centre_fallback_is_torchvisions(size: tuple[int, int]) -> None:
    """Whole-area crops of such shapes never fit, so that torchvision's answer is its fallback, whatever it draws."""
    height, width = size
    image = Image.new("L", (width, height))
    expected = {tuple(transforms.RandomResizedCrop.get_params(image, [1.0, 1.0], list(RATIO))) for _ in range(5)}
    assert len(expected) == 1
    crop = planned(TrainingViews(size=32, weak=3, scale=(1.0, 1.0)), np.arange(100), height, width).crop
    assert {tuple(box) for box in crop.reshape(-1, 4).tolist()} == expected


def test_exponential() -> None:
    x = np.linspace(-2, 2, 4001)
    expected = np.array([math.exp(value) for value in x.tolist()])
    assert np.abs(policy._exp(x) / expected - 1).max() < 1e-13
    assert policy._exp(np.zeros(1))[0] == 1
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    assert policy._exp(np.array([low, high])) == pytest.approx(RATIO, rel=1e-14)


# --- flips and operations -------------------------------------------------------------------------------------------


def test_half_of_the_views_are_flipped() -> None:
    flip = planned(VIEWS, np.arange(20_000), 50, 60).flip
    assert np.abs(flip.mean(1) - 0.5).max() < 0.012  # the standard deviation is 0.0035


def test_without_flips_nothing_else_changes() -> None:
    with_flips = planned(VIEWS, np.arange(100), 50, 60)
    without = planned(TrainingViews(32, weak=2, strong=2, flip=False), np.arange(100), 50, 60)
    assert not without.flip.any()
    assert_same(without, with_flips._replace(flip=without.flip))


def test_operations_and_levels_are_uniform_and_independent() -> None:
    plan = planned(VIEWS, np.arange(25_000), 50, 60)
    op, level, flip = (
        plan.op[2:].reshape(-1, 2).astype(int),
        plan.level[2:].reshape(-1, 2).astype(int),
        plan.flip[2:].ravel(),
    )
    assert set(np.unique(level)) == {*range(-9, 0), *range(1, 10)}
    signed = np.where(level < 0, level + 9, level + 8)  # 0 … 17
    for k in range(2):
        assert abs(chi_square(np.bincount(op[:, k], minlength=16))) < 3.5
        assert abs(chi_square(np.bincount(signed[:, k], minlength=18))) < 3.5
        assert abs(chi_square(np.bincount(18 * op[:, k] + signed[:, k], minlength=16 * 18))) < 3.5
        assert abs(chi_square(np.bincount(2 * op[:, k] + flip, minlength=32))) < 3.5
    assert abs(chi_square(np.bincount(16 * op[:, 0] + op[:, 1], minlength=256))) < 3.5  # with replacement
    assert abs(chi_square(np.bincount(18 * signed[:, 0] + signed[:, 1], minlength=18 * 18))) < 3.5
    assert abs(chi_square(np.bincount(16 * plan.op[2, :, 0].astype(int) + plan.op[3, :, 1], minlength=256))) < 3.5


@pytest.mark.parametrize("views", [TrainingViews(32, weak=3), EvaluationView(32, 36)], ids=["weak", "evaluation"])
def test_plain_views_are_not_augmented(views: TrainingViews | EvaluationView) -> None:
    plan = planned(views, np.arange(50), 50, 60, stream=Stream.LABELED)
    assert (plan.op == Op.Identity).all()


def test_only_strong_views_are_augmented() -> None:
    plan = planned(VIEWS, np.arange(200), 50, 60)
    assert (plan.op[:2] == Op.Identity).all()
    assert (plan.op[2:] != Op.Identity).any(-1).all(0).mean() > 0.98
    assert planned(TrainingViews(32, weak=0, strong=1), np.arange(200), 50, 60).op.max() == 15


@pytest.mark.parametrize(
    ("op", "level", "expected"),
    [
        (Op.AutoContrast, 5, 0.0),
        (Op.Equalize, -9, 0.0),
        (Op.Identity, 1, 0.0),
        (Op.Invert, 9, 0.0),
        (Op.Brightness, 5, 1.0),
        (Op.Color, -5, 1.0),
        (Op.Contrast, 9, 1.72),
        (Op.Sharpness, 1, 0.28),
        (Op.Posterize, 1, 4.0),
        (Op.Posterize, -9, 7.0),
        (Op.Rotate, 9, 27.0),
        (Op.Rotate, -1, -3.0),
        (Op.ShearX, 9, 0.27),
        (Op.ShearY, -9, -0.27),
        (Op.Solarize, 3, 76.0),
        (Op.Solarize, -9, 230.0),
        (Op.SolarizeAdd, 9, 99.0),
        (Op.SolarizeAdd, -5, -55.0),
        (Op.TranslateX, 4, 0.18),
        (Op.TranslateY, -9, -0.405),
    ],
    ids=lambda value: value.name if isinstance(value, Op) else str(value),
)
def test_values_of_levels(op: Op, level: int, expected: float) -> None:
    assert ops.value(op, level) == pytest.approx(expected, abs=1e-12)


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_evaluation_is_torchvisions_resize_and_centre_crop() -> None:
    rng = np.random.default_rng(2)
    sides = [
        *rng.integers(8, 420, (70, 2)).tolist(),
        [1, 1],
        [1, 40],
        [60, 1],
        [224, 224],
        [256, 256],
        [257, 256],
        [255, 511],
    ]
    for number, (height, width) in enumerate(sides):
        resize = (256, 36, 97, 232)[number % 4]
        size = (224, 32, 97, 201)[number % 4]  # even and odd margins, and none
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
        expected = transforms.CenterCrop(size)(transforms.Resize(resize)(image))
        (actual,) = pillow.execute(image, planned(EvaluationView(size, resize), [number], height, width), 0)
        np.testing.assert_array_equal(actual, np.asarray(expected), f"{height} × {width}, {resize=}, {size=}")


def test_evaluation_sizes_are_torchvisions_for_every_size_of_imagenet() -> None:
    """Only the arithmetic: the resized size and the window of 500 × w and h × 500 and other images."""
    rng = np.random.default_rng(3)
    sides = np.concatenate([np.stack([np.full(500, 500), np.arange(20, 520)], 1), rng.integers(20, 5000, (500, 2))])
    sides = np.concatenate([sides, sides[:, ::-1]])
    plan = planned(EvaluationView(224, 256), np.arange(len(sides)), *sides.T)
    for (height, width), (resized_h, resized_w), window in zip(
        sides.tolist(), plan.resized[0].tolist(), plan.window[0].tolist(), strict=True
    ):
        size = torchvision_transforms.F._compute_resized_output_size((height, width), [256])
        assert [resized_h, resized_w] == size
        assert window == [round((resized_h - 224) / 2.0), round((resized_w - 224) / 2.0)]


def test_evaluation_draws_nothing() -> None:
    one = planned(EvaluationView(), np.arange(5), 300, 400)
    assert_same(one, planned(EvaluationView(), np.arange(5) + 7, 300, 400, passes=2, seed=9, stream=Stream.EVALUATION))


# --- views ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "size ≥ 1"),
        ({"weak": 0, "strong": 0}, "at least one view"),
        ({"weak": -1, "strong": 3}, "at least one view"),
        ({"scale": (0.0, 1.0)}, "0 < low ≤ high ≤ 1"),
        ({"scale": (0.5, 1.5)}, "0 < low ≤ high ≤ 1"),
        ({"scale": (0.9, 0.5)}, "0 < low ≤ high ≤ 1"),
        ({"ratio": (0.0, 1.0)}, "0 < low ≤ high"),
        ({"ratio": (2.0, 1.0)}, "0 < low ≤ high"),
    ],
    ids=str,
)
def test_impossible_views_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainingViews(**wrong)


@pytest.mark.parametrize(("size", "resize"), [(225, 224), (0, 10)])
def test_an_impossible_evaluation_view_is_refused(size: int, resize: int) -> None:
    with pytest.raises(DataError, match="1 ≤ size ≤ resize"):
        EvaluationView(size, resize)


@pytest.mark.parametrize(
    "views",
    [
        VIEWS,
        TrainingViews(32, weak=0, strong=1, flip=False),
        TrainingViews(224, weak=2, scale=(1.0, 1.0)),
        TrainingViews(8, weak=1, strong=3, scale=(0.01, 0.02), ratio=(0.1, 20.0)),
        EvaluationView(32, 36),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 4, 2**64 - 1])
def test_the_compiled_plan_is_the_same(views, seed):
    """Bit for bit, from tiny to huge images, long ones among them, where no try fits."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(0, 9, (2, 4000))).astype(np.int32)
    sides[:, :500] = [[3], [2000]]
    index, passes = rng.integers(0, 2**40, 4000), rng.integers(0, 90, 4000)
    draws = Draws(index, passes, seed, Stream.UNLABELED)
    assert_same(compiled_policy.plan(views, draws, *sides), policy.plan(views, draws, *sides))


def test_the_compiled_plan_is_contiguous():
    """Compiled code takes one layout."""
    draws = Draws(np.arange(9), np.zeros(9, np.int64), 1, Stream.LABELED)
    sides = np.full((9, 2), 50, np.int32).T
    for views in (VIEWS, EvaluationView(32, 36)):
        made = compiled_policy.plan(views, draws, *sides)
        assert all(part.flags.c_contiguous for name, part in made._asdict().items() if name != "size")
