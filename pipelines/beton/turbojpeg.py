"""libturbojpeg through ctypes: JPEG bytes to RGB in memory that the caller owns, byte for byte as Pillow decodes.

The functions of ``library()`` are plain ctypes functions of addresses and integers, which release the GIL;
``for_kernels()`` are the same for compiled code. A handle serves one thread at a time: one ``create()`` per thread.
"""

import ctypes
import ctypes.util
import re
import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from numba import types
from numpy.typing import NDArray

from pipelines.beton.format import PLANES, bytes_of, divisors
from pipelines.errors import DataError, MissingDependency

RGB = 0
"""TJPF_RGB, the pixel format argument of ``decompress``."""
EXACT = 0
"""The flags argument of ``decompress``: accurate DCT and smooth chroma upsampling, as Pillow has them."""
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "grey", "4:4:0", "4:1:1", "4:4:1", "unknown")
"""TJSAMP_* by number; "unknown" is -1."""
_WITH_LUMA = (1, 2)
"""TJCS_YCbCr and TJCS_GRAY, the colour spaces whose planes ours are."""


@ctypes.CFUNCTYPE(ctypes.c_int)
def _absent() -> int:
    """What kernels call in place of a library that is not installed: it fails, whatever it is given."""
    return -1


class Library(NamedTuple):
    """The C functions; pointers are addresses (numba: ``array.ctypes``), the sizes are in bytes or pixels.

    The decompress functions return 0, or -1 where anything is wrong, a mere warning (truncated data) included.
    Two traps (seen with 2.1.5): after a failed header the handle may fail on the next, good file too, or return 0 and
    write no field. So replace a handle that has failed, and zero the fields before each call.
    """

    path: str
    create: Any  # () → handle
    destroy: Any  # (handle) → int
    decompress_header: Any  # (handle, jpeg, bytes, int32 *width, *height, *subsampling, *colorspace) → int
    decompress: Any  # (handle, jpeg, bytes, rgb, width, pitch (0: 3·width), height, pixel format, flags) → int
    decompress_planes: Any  # (handle, jpeg, bytes, pointers to planes, width, pitches, height, flags) → int
    error_text: Any  # (handle) → bytes, what the handle's last failure was


class Header(NamedTuple):
    """What a JPEG says of itself."""

    width: int
    height: int
    subsampling: str  # one of SUBSAMPLINGS


@cache
def library() -> Library:
    """Returns the system's libturbojpeg, or else the environment's, loaded once.

    Raises MissingDependency where there is none.
    """
    path = ctypes.util.find_library("turbojpeg") or "libturbojpeg.so.0"
    conda = Path(sys.prefix, "lib", "libturbojpeg.so.0")
    try:
        loaded = ctypes.CDLL(path := str(conda) if conda.exists() else path)
    except OSError as error:
        raise MissingDependency(
            f"Decoding JPEGs needs the system library libturbojpeg, which is not installed ({error}). "
            "Run: apt-get install libturbojpeg0 (with conda: conda install libjpeg-turbo)"
        ) from error
    pointer, size, integer = ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = loaded[name]  # by index: a function object of its own, whose types nobody else sets
        found.restype, found.argtypes = result, arguments
        return found

    return Library(
        path=path,
        create=function("tjInitDecompress", pointer),
        destroy=function("tjDestroy", integer, pointer),
        decompress_header=function("tjDecompressHeader3", integer, pointer, pointer, size, *[pointer] * 4),
        decompress=function(
            "tjDecompress2", integer, pointer, pointer, size, pointer, integer, integer, integer, integer, integer
        ),
        decompress_planes=function(
            "tjDecompressToYUVPlanes",
            integer,
            pointer,
            pointer,
            size,
            pointer,
            integer,
            pointer,
            integer,
            integer,
        ),
        error_text=function("tjGetErrorStr2", ctypes.c_char_p, pointer),
    )


class KernelFunctions(NamedTuple):
    """The functions of ``Library`` that kernels call, as numba's ExternalFunctions; addresses are unsigned integers."""

    create: Any
    destroy: Any
    decompress_header: Any
    decompress: Any


@cache
def for_kernels() -> KernelFunctions:
    """Returns what kernels call; where the library is not installed, every call fails.

    Compiled code refers to these functions by a name of ours, not by an address, so it can be kept on disk. The names
    are bound to the addresses before any kernel that uses them is loaded. They are not the library's own: other
    packages in the process may have brought another libturbojpeg.
    """
    address, size, integer = types.uintp, types.ulong, types.intc
    signatures = {
        "create": address(),
        "destroy": integer(address),
        "decompress_header": integer(address, address, size, *[address] * 4),
        "decompress": integer(address, address, size, address, integer, integer, integer, integer, integer),
    }
    try:
        called = {name: getattr(library(), name) for name in signatures}
    except MissingDependency:  # planes and pixels need no decoder; whoever meets a JPEG asks for the library before
        called = dict.fromkeys(signatures, _absent)
    functions = {}
    for name, signature in signatures.items():
        symbol = f"debiaspl_turbojpeg_{name}"
        llvm.add_symbol(symbol, ctypes.cast(called[name], ctypes.c_void_p).value)
        functions[name] = types.ExternalFunction(symbol, signature)
    return KernelFunctions(**functions)


def version() -> str:
    """Returns the release that the library's binary names (its C interface tells none), such as "2.1.5"."""
    name = Path(library().path).name
    mapped = Path("/proc/self/maps").read_text().splitlines()
    files = {line.split(maxsplit=5)[5] for line in mapped if line.endswith(name) or f"/{name}." in line}
    for file in sorted(files):
        if found := re.search(rb"libjpeg-turbo version ([0-9.]+)", Path(file).read_bytes()):
            return found[1].decode()
    return "unknown"


class Decoder:
    """One thread's decoder."""

    def __init__(self) -> None:
        self._library = library()
        self._handle: int | None = self._library.create()
        self._numbers = np.zeros(4, np.int32)  # width, height, subsampling, colour space
        self._fields = [self._numbers.ctypes.data + 4 * field for field in range(4)]

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the handle; closing twice is fine."""
        if self._handle is not None:
            self._library.destroy(self._handle)
            self._handle = None

    def header(self, jpeg: bytes | NDArray[np.uint8]) -> Header:
        """Returns size and subsampling. Raises DataError where the bytes do not begin with a JPEG header."""
        data = np.frombuffer(jpeg, np.uint8)
        self._numbers[:] = 0
        self._check(self._library.decompress_header(self._open(), data.ctypes.data, data.size, *self._fields))
        width, height, subsampling, _ = self._numbers.tolist()
        if width < 1 or height < 1:  # tables without a picture are no error to the library
            raise DataError("libturbojpeg cannot decode the image: it holds no picture")
        return Header(width, height, SUBSAMPLINGS[subsampling])

    def decode(self, jpeg: bytes | NDArray[np.uint8], rgb: NDArray[np.uint8]) -> None:
        """Decodes into ``rgb`` [height, width, 3], whose size must be the image's.

        Raises DataError where the file is damaged or truncated, or is no JPEG that has RGB pixels (CMYK).
        """
        found = self.header(jpeg)
        if rgb.shape != (found.height, found.width, 3) or rgb.dtype != np.uint8 or not rgb.flags.c_contiguous:
            raise ValueError(f"A {found} needs contiguous uint8 memory of its size (got {rgb.shape}, {rgb.dtype}).")
        data = np.frombuffer(jpeg, np.uint8)
        self._check(
            self._library.decompress(
                self._open(), data.ctypes.data, data.size, rgb.ctypes.data, found.width, 0, found.height, RGB, EXACT
            )
        )

    def planes(self, jpeg: bytes | NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]] | None:
        """Returns the kind and the bytes of the planes, as ``format`` has them, in new memory.

        None where there is no kind for them (RGB, CMYK, 4:1:1). Raises DataError where the file is damaged.
        """
        found = self.header(jpeg)
        kind = PLANES.get(found.subsampling)
        if kind is None or self._numbers[3] not in _WITH_LUMA:
            return None
        data, (down, across) = np.frombuffer(jpeg, np.uint8), divisors(kind)
        # libturbojpeg writes whole groups of luma, so a row and a column more where chroma has half as many.
        rows, columns = -(-found.height // down) * down, -(-found.width // across) * across
        luma, chroma = rows * columns, (rows // down) * (columns // across)
        planes = np.empty(int(bytes_of(kind, rows, columns)), np.uint8)
        starts = np.uint64(planes.ctypes.data) + np.array([0, luma, luma + chroma], np.uint64)
        pitches = np.array([columns, columns // across, columns // across], np.int32)
        where = starts.ctypes.data, found.width, pitches.ctypes.data, found.height
        self._check(self._library.decompress_planes(self._open(), data.ctypes.data, data.size, *where, EXACT))
        if (rows, columns) != (found.height, found.width):
            cut = planes[:luma].reshape(rows, columns)[: found.height, : found.width]
            planes = np.concatenate([cut.reshape(-1), planes[luma:]])
        return kind, planes

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("This Decoder is closed, or libturbojpeg had no memory for it.")
        return self._handle

    def _check(self, code: int) -> None:
        if code:
            text = self._library.error_text(self._handle).decode(errors="replace")
            self.close()
            self._handle = self._library.create()  # the failed handle might spoil the next image
            raise DataError(f"libturbojpeg cannot decode the image: {text}")
