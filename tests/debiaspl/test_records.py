"""metrics.jsonl and TensorBoard: the same steps in both after any stop, damage dropped and counted."""

import json
import random
import threading
import time

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from debiaspl import records
from debiaspl.checkpoint import Progress
from debiaspl.logbook import Logbook
from debiaspl.records import Record, Records


def logbook(folder, step=0, evaluated=True, count=0) -> Logbook:
    progress = Progress(step, records=count)
    return Logbook(folder, progress, evaluated=evaluated, total_images=100, done_images=0, quiet=False)


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def recorded(folder) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in Records(folder).read()[0]:
        for name, value in record.values.items():
            found.setdefault(name, []).append((record.step, value))
    return found


def run(folder, first: int, last: int, **how) -> None:
    book = logbook(folder, step=first, **how)
    for step in range(first + 1, last + 1):
        book.write(step, {"train/total": float(step), "train/lr": 0.5})
        if step % 4 == 0:
            book.write(step, {"val/student_top1": step / 2})
    book.close()


def test_both_hold_the_same_after_a_stop_and_a_resume(tmp_path):
    run(tmp_path, 0, 10)
    run(tmp_path, 6, 12)
    assert scalars(tmp_path) == recorded(tmp_path)
    assert [step for step, _ in recorded(tmp_path)["train/total"]] == list(range(1, 13))


def test_both_hold_the_same_after_a_clock_that_was_set_back(tmp_path, monkeypatch):
    run(tmp_path, 0, 8)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    run(tmp_path, 8, 16)
    assert scalars(tmp_path) == recorded(tmp_path)
    assert len(scalars(tmp_path)["train/total"]) == 16


def test_an_evaluation_that_is_done_again_is_recorded_once(tmp_path):
    run(tmp_path, 0, 8)
    run(tmp_path, 8, 10, evaluated=False)
    assert recorded(tmp_path)["val/student_top1"] == [(4, 2.0)]
    assert [step for step, _ in recorded(tmp_path)["train/total"]] == list(range(1, 11))


def test_pictures_and_texts_survive_a_resume(tmp_path):
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "a.png")
    book = logbook(tmp_path)
    for step in (1, 2, 3):
        book.write(step, {"train/total": 1.0})
        book.picture("a", tmp_path / "a.png", step)
        book.text("files", ["b.jpg"], step)
    book.close()
    run(tmp_path, 2, 4)
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    board.Reload()
    assert [event.step for event in board.Images("a")] == [1, 2]
    assert [event.step for event in board.Tensors("files/text_summary")] == [1, 2]


def test_damaged_lines_are_dropped_and_counted(tmp_path, capsys):
    run(tmp_path, 0, 6)
    path = tmp_path / records.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"2.0", b"7.0")
    lines[2] = b"\xff\xfe nonsense\n"
    path.write_bytes(b"".join(lines) + b'{"step": 7, "train/tot')
    run(tmp_path, 6, 7)
    assert "3 records of the steps so far are damaged or missing" in capsys.readouterr().out
    assert [step for step, _ in recorded(tmp_path)["train/total"]] == [1, 4, 5, 6, 7]
    assert scalars(tmp_path) == recorded(tmp_path)


def test_a_file_cut_at_a_line_s_end_is_known_by_the_checkpoint(tmp_path, capsys):
    run(tmp_path, 0, 6)
    path = tmp_path / records.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    book = logbook(tmp_path, step=6, count=len(lines))
    assert "2 records of the steps so far are damaged or missing" in capsys.readouterr().out
    assert book.flush() == len(lines) - 2
    book.write(7, {"train/total": 1.0})
    assert book.flush() == len(lines) - 1
    book.close()


def test_lines_of_the_version_before_are_kept(tmp_path):
    (tmp_path / records.NAME).write_text('{"step": 1, "train/total": 2.5}\n')
    assert Records(tmp_path).read() == ([Record(1, 0.0, {"train/total": 2.5})], 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e-300, 0.1 + 0.2, -0.0])
def test_any_value_comes_back(value, tmp_path):
    Records(tmp_path).append(Record(1, 5.0, {"a": value}))
    (record,), damaged = Records(tmp_path).read()
    assert repr(record.values["a"]) == repr(value)
    assert damaged == 0


def test_no_mutation_raises_or_changes_a_value(tmp_path):
    path = tmp_path / records.NAME
    run(tmp_path, 0, 8)
    whole, data = Records(tmp_path).read()[0], path.read_bytes()
    draw = random.Random(0)
    for _ in range(100):
        mutated = bytearray(data)
        for _ in range(draw.choice((1, 1, 4, 40))):
            at = draw.randrange(len(mutated))
            match draw.randrange(3):
                case 0:
                    mutated[at] ^= 1 << draw.randrange(8)
                case 1:
                    del mutated[at : at + draw.randrange(1, 20)]
                case 2:
                    mutated[at:at] = draw.randbytes(draw.randrange(1, 20))
        path.write_bytes(mutated)
        found, damaged = Records(tmp_path).read()
        assert all(record in whole for record in found)
        assert damaged or found == whole


def test_what_the_disk_refuses_is_written_later_and_told_once(tmp_path, capsys):
    book = logbook(tmp_path)
    book.write(1, {"a": 1.0})
    book.flush()
    path = tmp_path / records.NAME
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    for step in (2, 3):
        book.write(step, {"a": float(step)})
    book.flush()
    path.rmdir()
    path.write_bytes(content)
    book.write(4, {"a": 4.0})
    book.close()
    assert [step for step, _ in recorded(tmp_path)["a"]] == [1, 2, 3, 4]
    said = capsys.readouterr().out
    assert said.count("cannot be written") == 1
    assert said.count("is written again") == 1
    assert json.loads(path.read_text().splitlines()[-1])["step"] == 4


def test_a_tensorboard_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    (tmp_path / "tensorboard").touch()
    run(tmp_path, 0, 5)
    assert capsys.readouterr().out.count("TensorBoard's file cannot be written") == 1
    assert len(recorded(tmp_path)["train/total"]) == 5


def test_a_slow_disk_holds_up_nobody_but_who_needs_the_records(tmp_path, monkeypatch):
    """Records are written in their order, by a thread; flush waits for them."""
    book, go_on, append = logbook(tmp_path), threading.Event(), Records.append

    def slow(written, record):
        assert go_on.wait(60)
        append(written, record)

    monkeypatch.setattr(Records, "append", slow)
    for step in range(1, 6):
        book.write(step, {"a": float(step)})  # returns while the disk stands still
    assert recorded(tmp_path) == {}
    go_on.set()
    book.flush()
    assert recorded(tmp_path) == {"a": [(step, float(step)) for step in range(1, 6)]}
    book.close()
    assert scalars(tmp_path) == recorded(tmp_path)
