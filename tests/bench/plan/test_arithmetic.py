"""The plan's arithmetic against figures that were worked out by hand from the same inputs."""

import math

import pytest

from bench.arguments import STEP
from bench.plan.arithmetic import BUILT_IN, Host, Mode, best_mode, core_ms_of_step, gpu_counts, row
from bench.plan.devices import DEVICES, named
from pipelines.errors import DataError

LARGE = Host(gpus=8, cores=1000, memory_gb=2000, disk_mb_s=5000, network_gbit_s=400)
UNLABELED_1P = 3963 * 320
"""Unlabeled images of 1 % of the labels, as whole steps of 8 × 40."""


@pytest.mark.parametrize(
    ("name", "step_ms", "steps", "images", "of_eight", "hours"),
    [
        ("a100-pytorch", 49.4, 20.2, 972, 7_800, 2.7),
        ("a100", 35.9, 27.9, 1_338, 10_700, 2.0),
        ("h100", 22.0, 45.4, 2_179, 17_400, 1.2),
    ],
)
def test_the_table_of_devices(
    name: str, step_ms: float, steps: float, images: float, of_eight: float, hours: float
) -> None:
    """The two last columns are known to two digits only, hence the wider margin of the hours."""
    seconds = DEVICES[name].step_seconds
    found = row(8, LARGE, BUILT_IN[0], seconds)
    assert 1000 * seconds == pytest.approx(step_ms, rel=0.02)
    assert 1 / seconds == pytest.approx(steps, rel=0.02)
    assert found.needed == pytest.approx(images, rel=0.02)
    assert 8 * found.rate == pytest.approx(of_eight, rel=0.02)
    assert found.hours(50, UNLABELED_1P) == pytest.approx(hours, abs=0.051)
    assert found.bottleneck == "GPU"


@pytest.mark.parametrize(
    ("crop", "augment", "step", "cores"),
    [(0.33, 0, 105, 23.5), (0.33, 1, 185, 41.4), (0.16, 0, 77, 17.1), (0.16, 1, 157, 35)],
)
def test_the_cores_for_eight_a100(crop: float, augment: float, step: float, cores: float) -> None:
    cost = core_ms_of_step(1.04, crop, augment)
    found = row(8, LARGE, Mode("JPEGs", cost / STEP, 110, "by hand"), DEVICES["a100"].step_seconds)
    assert cost == pytest.approx(step, rel=0.02)
    assert found.cores_needed == pytest.approx(cores, rel=0.02)


def test_cores_give_out_first() -> None:
    host = Host(gpus=8, cores=24, memory_gb=2000, disk_mb_s=5000, network_gbit_s=400, step_cores=1)
    found = row(8, host, Mode("m", 2.0, 110, ""), DEVICES["h100"].step_seconds)
    assert found.bottleneck == "cores"
    assert found.supplied == found.rate == 16 / 8 / 0.002  # 16 cores are left, 2 for each GPU
    assert found.threads == 2
    assert row(1, host, Mode("m", 2.0, 110, ""), DEVICES["h100"].step_seconds).threads == 5  # 2,179 × 2 ms = 4.4 cores


def test_the_disk_gives_out_first_unless_the_data_is_in_memory() -> None:
    host = Host(gpus=8, cores=200, memory_gb=100, disk_mb_s=500, network_gbit_s=400)
    mode, seconds = Mode("m", 1.0, 100, ""), DEVICES["a100"].step_seconds
    small = row(8, host, mode, seconds)
    assert (small.bottleneck, small.by_disk) == ("disk", 5000 / 8)
    large = Host(gpus=8, cores=200, memory_gb=200, disk_mb_s=500, network_gbit_s=400)
    assert math.isinf(row(8, large, mode, seconds).by_disk)
    assert row(8, large, mode, seconds, cold=True).by_disk == 5000 / 8


def test_hosts_exchange_gradients_over_the_network() -> None:
    slow = Host(gpus=8, cores=200, memory_gb=2000, disk_mb_s=5000, network_gbit_s=10)
    seconds = DEVICES["h100"].step_seconds
    one, two = row(8, slow, BUILT_IN[0], seconds), row(16, slow, BUILT_IN[0], seconds)
    assert (one.hosts, one.exchange_seconds) == (1, 0)
    assert two.hosts == 2
    assert two.exchange_seconds == pytest.approx(102.2e6 * 8 / 10e9, rel=0.01)  # 2·(2−1)/2 of 102 MB
    assert two.bottleneck == "network"
    assert two.needed == pytest.approx(48 / (seconds + two.exchange_seconds))


def test_the_mode_that_supplies_more_and_then_reads_less() -> None:
    seconds = DEVICES["a100"].step_seconds
    assert best_mode([row(8, LARGE, mode, seconds) for mode in BUILT_IN]).mode.name == "ffcv, JPEGs"
    short = Host(gpus=8, cores=20, memory_gb=2000, disk_mb_s=5000, network_gbit_s=400)
    assert best_mode([row(8, short, mode, seconds) for mode in BUILT_IN]).mode.name == "ffcv, planes"


def test_counts_of_gpus() -> None:
    assert gpu_counts(LARGE, 8) == [1, 2, 4, 8, 16, 32, 64]
    assert gpu_counts(Host(6, 10, 10, 10, 10), 2) == [1, 2, 4, 6, 8, 12]


def test_devices_by_name_or_by_their_step() -> None:
    assert named("h100")[1] == DEVICES["h100"].step_seconds
    assert named("h100", step_ms=100)[1] == 0.1
    with pytest.raises(DataError, match="'b200'"):
        named("b200")
