"""The scaling table: whoever is measured on one core has one core, decoding alone too, and the numbers are its own."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bench import corpus
from bench.loader import bars, cores
from bench.loader.further import Corpus
from bench.measure import Contestant, Measurement, Sample, Series
from pipelines import NAMES, errors
from pipelines.samples.listing import list_images

needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be told from all")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    root = corpus.build(folder, 48)
    return Corpus(root, list_images(root / "train"), folder, ["torchvision"], threads=2, rounds=1)


def affinities() -> set[frozenset[int]]:
    """The sets of cores that the threads of this process may use."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # a thread that ended meanwhile
            found.add(frozenset(os.sched_getaffinity(int(task.name))))
    return found


@pytest.fixture
def all_cores() -> Iterator[set[int]]:
    before = os.sched_getaffinity(0)
    yield before
    cores.confine(sorted(before))


@needs_two
def test_threads_that_run_already_are_confined_and_those_that_start_later(all_cores: set[int]) -> None:
    stop, seen = threading.Event(), list[set[int]]()
    early = threading.Thread(target=stop.wait)
    early.start()
    one = sorted(all_cores)[:1]
    cores.confine(one)
    late = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
    late.start()
    late.join()
    try:
        assert affinities() == {frozenset(one)}
        assert seen == [set(one)]
    finally:
        stop.set()
        early.join()


def _openable(small: Corpus) -> list[str]:
    names = []
    for name in NAMES:
        try:
            cores.open_feed(name, small.listing, small.root, 1).close()
            names.append(name)
        except errors.MissingDependency:
            continue
    return names


@needs_two
@pytest.mark.soak
def test_every_contestant_has_only_its_cores(
    small: Corpus, monkeypatch: pytest.MonkeyPatch, all_cores: set[int]
) -> None:
    """Each is run once as the bench would: while it works no thread of the process has another core, nor after."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    begun = children.read_text()
    found: dict[str, set[frozenset[int]]] = {}

    def measure(contestants: Sequence[Contestant], **_: object) -> Measurement:
        series = []
        for each in contestants:
            each.setup()
            begin = time.perf_counter()
            units = each.run()
            series.append(Series(each.name, (Sample(0, 0, units, time.perf_counter() - begin),)))
            found[each.name] = affinities()
            assert children.read_text() == begun  # a process would not be confined with us
        return Measurement("images/s", 1, 0, tuple(series))

    monkeypatch.setattr(cores, "measure", measure)
    names = _openable(small)
    table = cores.scaling(small._replace(names=names))
    ordered = sorted(all_cores)
    expected = {}
    for name in (bars.DECODE_LIMIT, *names):
        expected[f"{name}, 1 core"] = {frozenset(ordered[:1])}
        expected[f"{name}, 2 cores"] = {frozenset(ordered[:2])}
    assert found == expected
    assert affinities() == {frozenset(all_cores)}
    busy = table.section.raw["cores busy"]
    assert isinstance(busy, dict)
    assert all(0 < used <= 1.1 for name, used in busy.items() if name.endswith("1 core"))
    assert [row[0] for row in table.judged] == [f"{name}, {bars.SPEED_UP}" for name in names]
    assert all("met" in row[2] or "missed" in row[2] for row in table.judged)


def test_more_cores_than_allowed_are_noticed() -> None:
    busy: list[float] = []
    ticks = iter([0.0, 1.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cores.time, "perf_counter", lambda: next(ticks))
        used = iter([0.0, 1.9])
        patch.setattr(cores.time, "process_time", lambda: next(used))
        with pytest.raises(RuntimeError, match=r"1\.90 cores were busy where 1 should be"):
            cores._watched(lambda: 1, busy, cores=1)()
    assert busy == [1.9]


def test_counts_of_cores() -> None:
    assert cores.counts(1) == [1]
    assert cores.counts(2) == [1, 2]
    assert cores.counts(6) == [1, 2, 4, 6]


def test_missed_and_not_measured_are_told_apart() -> None:
    def series(name: str, rate: float) -> Series:
        return Series(name, (Sample(0, 0, 1, 1 / rate),))

    measured = Measurement("images/s", 1, 0, tuple(series(name, 100) for name in (bars.DECODE_LIMIT, "ffcv")))
    one, all_ = series("", 50), series("", 60)
    poor = bars.speed_up("ffcv", one, all_, series("", 100), series("", 200))
    assert poor[1:] == ("0.60× (0.60–0.60)", "≥ 1× within the spread: missed", "≥ 1×: missed")
    rows = {row[0]: row for row in bars.section(measured, ("ffcv", 0.01), [poor]).rows}
    assert rows[f"ffcv, {bars.SPEED_UP}"] == poor
    for absent in (f"ffcv against {bars.PUBLISHED}", bars.FLAT):
        assert rows[absent][1] == "not measured"
        assert not any("met" in cell or "missed" in cell for cell in rows[absent][2:])
