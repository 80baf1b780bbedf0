"""A conversion that is killed again and again, each time at a random moment, and then left to finish."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.conversion import convert, names
from tests.support.images import photo

_KILLER = """
import json, os, random, select, signal, sys, threading, time
from pathlib import Path
from pipelines.beton import convert
from pipelines.beton import session
from tools import convert_imagenet_to_ffcv as tool

kills, beton, arguments = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
session.COMMIT_BYTES, convert._TASK = 1, 2
os.fsync = os.fdatasync = lambda file: None  # the death of a process loses nothing that it has written
prepare, begun, left = convert.stored_image, os.pipe(), iter(range(max(6, 300 // kills)))
def few(*words):
    if next(left, None) is None:
        threading.Event().wait()  # for the kill: all children together must not finish, however long it takes to come
    os.write(begun[1], b".")
    return prepare(*words)
def commits():
    journal = Path(f"{beton}.partial.journal")
    return sum(1 for _ in session.read_commits(journal)) if journal.exists() else 0
moments, committed = random.Random(1), []
for number in range(kills):
    convert.stored_image = few
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(tool.main(arguments))
    if number == kills - 1:  # not before something was committed
        while not commits(): time.sleep(0.01)
    elif moments.random() < 0.2:  # while it lists the files, or reads the journal
        time.sleep(moments.uniform(0, 0.1))
    else:
        assert select.select(begun[:1], [], [], 600)[0], "it never began"
        time.sleep(moments.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status
    assert not beton.exists()
    os.set_blocking(begun[0], False)
    try:
        while os.read(begun[0], 1 << 16): pass
    except BlockingIOError:
        os.set_blocking(begun[0], True)
    committed.append(commits())
convert.stored_image = prepare
assert tool.main(arguments) == 0
print(json.dumps(committed), file=sys.stderr)
"""


def assert_kills_do_not_matter(data: Path, kills: int) -> None:
    """The files are the bytes of an uninterrupted conversion; what was committed before a kill is never lost."""
    for number in range(300):
        photo(60 + number % 17, 50, number).save(data / f"train/ant/more{number:03}.jpg")
    cut = data / "train/ant/more100.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    folder = data / "ffcv"
    assert convert(data, "--split", "train") == 0
    whole = {name: (folder / name).read_bytes() for name in names(folder) if not name.endswith(".json")}
    for path in folder.iterdir():
        path.unlink()
    arguments = ["--data", str(data), "--split", "train", "--resume", "--workers", "2"]
    command = [sys.executable, "-c", _KILLER, str(kills), str(folder / "train.beton"), *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    committed = json.loads(done.stderr.splitlines()[-1])
    assert committed == sorted(committed)
    assert committed[-1] > 0
    assert names(folder) == [f"train.beton{suffix}" for suffix in ("", ".files.csv", ".json", ".records.npy")]
    for name, content in whole.items():
        assert (folder / name).read_bytes() == content, name
