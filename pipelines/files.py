"""Files that are either old or new, never half-written; files that are read only if they can be; the cache folder."""

import csv
import errno
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipelines.names import readable

_AT_ONCE = 1 << 20
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What file systems say that have no locks (Lustre without flock, NFS without lockd)."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields an empty file beside ``path`` to write to; it takes ``path``'s place on success and goes on an error.

    Its name cannot be foretold and its file is new, so that writing follows no link which somebody laid there. What
    was written is on the disk before it takes the place, and has the mode that the umask gives a new file.
    """
    building = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield building
        sync(building)
        building.replace(path)
        sync(path.parent)
    finally:
        building.unlink(missing_ok=True)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table whose cells no spreadsheet takes for formulas, whatever names they hold. Raises OSError."""
    with replacing(path) as building, building.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([readable(cell, "csv") for cell in header])
        table.writerows([readable(cell, "csv") for cell in row] for row in rows)


def nearest_folder(path: Path) -> Path:
    """Returns ``path``, made absolute, or the nearest folder above it that exists."""
    whole = path.absolute()
    return next(each for each in (whole, *whole.parents) if each.exists())


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path, limit: int | None = None) -> BinaryIO:
    """Opens a regular file for reading; a pipe is not waited for and a device is not read.

    Raises OSError, also for a file that is something else or has more than ``limit`` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if limit is not None and status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit / 2**20:g} MiB", str(path))
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file of at most ``limit`` bytes. Raises OSError for any other."""
    with open_regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def verify_archive(file: BinaryIO) -> None:
    """Compares all that a zip archive holds with its checksums; torch.load looks at none of them.

    Files that are no archive (torch.save's older format) have no checksums and pass. The file is left at its start.
    Raises zipfile.BadZipFile, or another error of that module, where the archive is damaged.
    """
    if file.read(4) == b"PK\3\4":
        with zipfile.ZipFile(file) as archive:
            for record in archive.infolist():
                with archive.open(record) as content:
                    while content.read(_AT_ONCE):  # reading to the end compares
                        pass
    file.seek(0)


def cache_folder() -> Path | None:
    """Returns this user's folder for what can be made again; None without a home.

    It is ``debiaspl`` in $XDG_CACHE_HOME or ~/.cache, and may be missing, or impossible to write to: whoever uses it
    does without then.
    """
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "debiaspl"
    try:
        return Path.home() / ".cache" / "debiaspl"
    except RuntimeError:  # HOME is not set, and the user has no entry in the password file
        return None
