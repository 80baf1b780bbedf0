"""Reads one file whole, and tells a fault of its own from one that its neighbours would share."""

import errno
import os
import stat
from pathlib import Path

from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.image_header import Buffer

_GONE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
"""Errors that are the file's own. Any other (a network's, a full table of open files) would hit its neighbours too."""


class Refused(Exception):
    """The file is skipped; the text says why."""


def read_file(path: str, memory: memoryview) -> Buffer:
    """Returns its bytes, in ``memory`` where they fit.

    Raises Refused for a fault of the file's own, DataError for any other.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # waits for no named pipe's writer
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Refused("not a regular file")
            target = memory if found.st_size <= len(memory) else memoryview(bytearray(found.st_size))
            size = 0
            while size < found.st_size and (count := os.readv(descriptor, [target[size : found.st_size]])):
                size += count
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _GONE:
            raise DataError(
                f"Cannot read {readable(path)}: {error.strerror}. Mend that, then go on with --resume."
            ) from error
        what = error.strerror
        if error.errno == errno.ENOENT:
            what = "dangling symlink" if Path(path).is_symlink() else "it is gone"
        raise Refused(f"cannot be read: {what}") from error
    if not size:
        raise Refused("empty file")
    return target[:size]
