"""The split file: beside index files, the JSON that says how they were made, of which data, and what they must hold.

``<name>.split.json`` binds one or more CSVs in its folder (by SHA-256) to a listing (by its fingerprint), and holds a
digest of itself. The listing's names lie beside it, compressed, once for all splits of one listing: only to say which
file differs.
"""

import gzip
import hashlib
import json
import os
import re
import shlex
import zlib
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.errors import DataError
from pipelines.files import read_regular
from pipelines.names import readable
from pipelines.samples.listing import Listing
from pipelines.samples.path_table import Paths

VERSION = 1
SUFFIX = ".split.json"
_LARGEST = 64 << 20
"""Bytes of a split file; half a million classes."""
_LARGEST_NAMES = 1 << 30
"""Bytes of a names file, compressed or not; some 30 million images."""
_LONGEST_PATH = 4096
"""Bytes, on Linux."""
_SHA256 = re.compile("[0-9a-f]{64}")


def describe(listing: Listing, rule: Mapping[str, Any], command: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns what a split file says of ``files`` (name → content); ``rule`` holds all parameters, the seed too."""
    content = {
        "version": VERSION,
        "command": command,
        "rule": dict(rule),
        "listing": {
            "fingerprint": listing.fingerprint,
            "images": len(listing),
            "names": names_file(listing.fingerprint),
            "classes": _class_digests(listing.paths, bool(listing.classes)),
        },
        "files": {
            name: {"rows": content.count(b"\n") - 1, "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    return content | {"digest": _digest(content)}


def names_file(fingerprint: str) -> str:
    """Returns the name of the file that holds a listing's names."""
    return f"listing-{fingerprint[:16]}.names.gz"


def compressed_names(listing: Listing) -> bytes:
    """Returns the content of the file that holds a listing's names."""
    return gzip.compress(Paths.of(listing.paths).block, compresslevel=6, mtime=0)


def split_files_of(csv: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the split files that name ``csv``, and their contents. Raises DataError for one that cannot be read."""
    contents = [(path, read_split_file(path)) for path in sorted(csv.parent.glob(f"*{SUFFIX}"))]
    return [(path, content) for path, content in contents if csv.name in content["files"]]


def check_index_file(csv: Path, content: bytes, listing: Listing) -> None:
    """Raises DataError where a split file says that ``csv`` held something else, or was made for other files."""
    for path, stated in split_files_of(csv):
        again = (
            f"Restore it, or make the split again with: {_again(stated['command'], csv.parent, listing.root.parent)}"
        )
        found, wanted = hashlib.sha256(content).hexdigest(), stated["files"][csv.name]["sha256"]
        if found != wanted:
            raise DataError(
                f"{readable(csv)} is not the file that {readable(path.name)} describes "
                f"(SHA-256 {found[:12]}…, there {wanted[:12]}…). {again}"
            )
        if stated["listing"]["fingerprint"] != listing.fingerprint:
            raise DataError(
                f"{readable(csv)} was made for other files than those in {readable(listing.root)}: "
                f"{_difference(path.parent, stated['listing'], listing)}. {again}"
            )


def _again(command: str, folder: Path, data: Path) -> str:
    """Returns the command that replaces the index files in ``folder``, which belong to the root ``data``."""
    out = [] if folder == data / "indexes" else ["--out", str(folder)]
    return f"{command} {shlex.join(['--data', str(data), *out, '--force'])}"


def read_split_file(path: Path) -> dict[str, Any]:
    """Returns a split file's content. Raises DataError for one that cannot be read or that was changed."""
    try:
        content = json.loads(read_regular(path, _LARGEST))
        problem = _problem(content)
    except OSError as error:
        raise DataError(
            f"Cannot read the split file {readable(path)}: {error.strerror or error}. Restore or remove it."
        ) from error
    except (ValueError, RecursionError) as error:
        content, problem = None, f"it is no JSON ({error})"
    if isinstance(content, dict) and type(content.get("version")) is int and content["version"] != VERSION:
        raise DataError(
            f"{readable(path)} has format {content['version']}, this program reads {VERSION}. Make the split "
            "again with it."
        )
    if problem:
        raise DataError(
            f"{readable(path)} is not what tools/make_splits.py writes: {problem}. "
            "Restore it, make the split again, or remove it."
        )
    return content


def _problem(content: Any) -> str:
    """Says what is wrong with a split file's content, by keys, types, values and digest; empty where nothing is."""
    if not isinstance(content, dict):
        return "it is no JSON object"
    whole = {"version": int, "command": str, "rule": dict, "listing": dict, "files": dict}
    of_listing = {"fingerprint": str, "images": int, "names": str, "classes": dict}
    if wrong := _without(content, whole) or _without(content["listing"], of_listing):
        return f"{wrong} is missing or of the wrong type"
    listing = content["listing"]
    if not _SHA256.fullmatch(listing["fingerprint"]) or listing["names"] != names_file(listing["fingerprint"]):
        return "its fingerprint and the name of its names file do not belong together"
    for folder, entry in listing["classes"].items():
        if not (isinstance(entry, list) and [type(part) for part in entry] == [int, str] and entry[0] > 0):
            return f"its class {folder!r} should have a number of images and a digest"
    for name, entry in content["files"].items():
        if not isinstance(entry, dict) or _without(entry, {"rows": int, "sha256": str}):
            return f"its file {name!r} should have rows and sha256"
    # Splits that were made before the digest have none; no other key may stand in its place.
    given = {key: value for key, value in content.items() if key != "digest"}
    if unknown := given.keys() - whole.keys():
        return f"it has an unknown entry {min(unknown)!r}"
    return "" if content.get("digest", _digest(given)) == _digest(given) else "it was changed after it was written"


def _without(content: Mapping[str, Any], types: Mapping[str, type]) -> str:
    """Returns the first key that ``content`` lacks, or has with a value of another type; empty where there is none."""
    return next((repr(key) for key, kind in types.items() if type(content.get(key)) is not kind), "")


def _digest(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the content as JSON, however a file spells it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _class_digests(paths: Iterable[str], labeled: bool) -> dict[str, list[Any]]:
    """Class folder → [number of images, digest of their names]; one entry '' for a listing without classes."""
    groups = groupby(paths, lambda path: path.partition("/")[0] if labeled else "")
    result = {}
    for name, members in groups:
        names = [os.fsencode(path) for path in members]
        key = os.fsencode(name).decode(errors="backslashreplace")  # the files' own spelling, which stays
        result[key] = [len(names), hashlib.sha256(b"\0".join(names)).hexdigest()[:16]]
    return result


def _difference(folder: Path, stated: Mapping[str, Any], listing: Listing) -> str:
    """Says what is new or missing in ``listing``, naming the first such file, or class where only that can be told."""
    before = _stored_names(folder, stated)
    if before is None:
        ours = _class_digests(listing.paths, bool(listing.classes))
        return _differing_class(stated["classes"], ours, f"the names are not in {stated['names']}")
    now = Paths.of(listing.paths).block.split(b"\0")[:-1]
    parts = []
    for kind, ones, others in (("new", now, before), ("missing", before, now)):
        known = set(others)
        differing = [name for name in ones if name not in known]
        if differing:
            first = readable(os.fsdecode(differing[0]))
            verb = "is" if len(differing) == 1 else "are"
            parts.append(f"{len(differing)} {verb} {kind}, {'the first ' if len(differing) > 1 else ''}{first}")
    return "; ".join(parts) or "the same files in another order"


def _stored_names(folder: Path, stated: Mapping[str, Any]) -> list[bytes] | None:
    """Returns the names of the listing that a split was made for; None where they are gone or are those of another."""
    longest = min(stated["images"] * (_LONGEST_PATH + 1), _LARGEST_NAMES)
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip's format
    try:
        joined = unpacker.decompress(read_regular(folder / stated["names"], _LARGEST_NAMES), longest)
    except (OSError, zlib.error):
        return None
    same = unpacker.eof and hashlib.sha256(joined).hexdigest() == stated["fingerprint"]
    return joined.split(b"\0")[:-1] if same else None


def _differing_class(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]], why: str) -> str:
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if not differing:
        return "the same files in another order"
    counts = [side.get(differing[0], [0])[0] for side in (before, now)]
    return (
        f"{len(differing)} class folders differ, the first {readable(differing[0] or '.')} "
        f"({counts[0]} images then, {counts[1]} now; {why})"
    )
