"""``@kernel``: a function compiled by numba that runs without the interpreter's lock, and is compiled only once.

A kernel's machine code holds the code and the constants of every kernel that it calls. numba's own cache looks at the
file of the kernel alone and would go on running the old code of the others, so kernels have a cache of their own.
"""

import hashlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, no_type_check

import numba
from numba.core import cgutils
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.extending import intrinsic

from pipelines.files import cache_folder, replacing

_PACKAGE = Path(__file__).parents[1]
"""``pipelines``: a kernel calls functions and takes constants of no other package (a test holds that)."""
_DIGEST = hashlib.sha256().digest_size


def kernel(function: Callable[..., Any]) -> Any:
    """Returns the decorated function, compiled on its first call or loaded from the cache (see ``folders``)."""
    # Under pytest the functions of this package are wrapped in run-time type checks, which numba cannot compile.
    plain = inspect.unwrap(function)
    compiled: Any = numba.njit(nogil=True)(plain)
    compiled._cache = KernelCache(plain)  # where numba's cache=True puts its own
    return compiled


@no_type_check  # numba and LLVM objects
@intrinsic
def borrowed(context, array):
    """Returns the same array of another variable, which must outlive it: its slices count no references.

    Counting them costs 10 ns a slice, more than some rows of pixels.
    """

    def generate(context, build, signature, arguments):
        found = context.make_array(signature.return_type)(context, build, arguments[0])
        found.meminfo = cgutils.get_null_value(found.meminfo.type)
        return found._getvalue()

    return array(array), generate


def folders() -> list[Path]:
    """Returns where machine code may be kept, best place first; the first that can be written gets it.

    $NUMBA_CACHE_DIR if that is set, else the package's __pycache__, else the user's cache folder.
    """
    own = hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]  # copies of the package do not share their code
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(chosen, f"debiaspl_{own}")]
    found = [_PACKAGE / "__pycache__"]
    if (user := cache_folder()) is not None:
        found.append(user / "kernels" / own)
    return found


@cache
def sources_digest() -> bytes:
    """Returns a digest of every Python file of the package, and of the versions of numba and Python."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


class KernelCache(_Cache):
    """Keeps the machine code of one kernel: one file for each signature and kind of processor.

    A file begins with a digest of the sources, of what it is for and of its content. Where that differs (a changed
    kernel, a damaged file) the kernel is compiled anew and the file replaced. No index says which file is which, so
    processes that write at the same time cannot mix up each other's files.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    @property
    def cache_path(self) -> str:
        """The folder where code is looked for first."""
        return str(folders()[0])

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Returns the code compiled for the signature ``sig``; None where there is none that can be trusted."""
        target_context.refresh()
        name, purpose = self._entry(sig, target_context.codegen())
        for folder in folders():
            with suppress(OSError):
                content = (folder / name).read_bytes()
                if content[:_DIGEST] == _digest(purpose, content[_DIGEST:]):
                    return CompileResult._rebuild(target_context, *pickle.loads(content[_DIGEST:]))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the code ``data`` of the signature ``sig``; where no folder can be written, the run goes on without."""
        assert not data.library.has_dynamic_globals, f"{self._name} holds addresses of this process"
        name, purpose = self._entry(sig, data.codegen)
        code = dumps(data._reduce())
        for folder in folders():
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(folder / name) as building:
                    building.write_bytes(_digest(purpose, code) + code)
                return

    def _entry(self, sig: Any, codegen: Any) -> tuple[str, bytes]:
        """Returns the file's name, and what it is for: the kernel, its signature and the processor."""
        purpose = f"{self._name} {sig} {codegen.magic_tuple()}".encode()
        return f"{self._name}-{hashlib.sha256(purpose).hexdigest()[:16]}.{sys.implementation.cache_tag}.nbc", purpose

    def enable(self) -> None:
        """Does nothing: the cache is always on."""

    def disable(self) -> None:
        """Does nothing: the cache is always on."""

    def flush(self) -> None:
        """Does nothing: a file that does not fit the sources is replaced."""


def _digest(purpose: bytes, code: bytes) -> bytes:
    return hashlib.sha256(sources_digest() + hashlib.sha256(purpose).digest() + code).digest()
