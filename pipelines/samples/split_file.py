"""The split file: beside index files, the JSON that says how they were made, of which data, and what they must hold.

``<name>.split.json`` binds one or more CSVs in its folder (by SHA-256) to a listing (by its fingerprint). The listing's
names lie beside it, compressed, once for all splits of one listing: only to say which file differs.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.errors import DataError
from pipelines.samples.folder_scan import shown
from pipelines.samples.listing import Listing
from pipelines.samples.path_table import Paths

VERSION = 1
SUFFIX = ".split.json"


def describe(listing: Listing, rule: Mapping[str, Any], command: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What a split file says of ``files`` (name → content); ``rule`` holds the seed and all other parameters."""
    return {
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


def names_file(fingerprint: str) -> str:
    """Name of the file that holds a listing's names."""
    return f"listing-{fingerprint[:16]}.names.gz"


def compressed_names(listing: Listing) -> bytes:
    """That file's content."""
    return gzip.compress(Paths.of(listing.paths).block, compresslevel=6, mtime=0)


def split_files_of(csv: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The split files that name ``csv``, with their contents. Raises DataError for one that cannot be read."""
    contents = [(path, _read(path)) for path in sorted(csv.parent.glob(f"*{SUFFIX}"))]
    return [(path, content) for path, content in contents if csv.name in content["files"]]


def check_index_file(csv: Path, content: bytes, listing: Listing) -> None:
    """Raise DataError where a split file says that ``csv`` held something else, or was made for other files."""
    for path, stated in split_files_of(csv):
        again = f"Restore it, or make the split again with: {stated['command']}"
        found, wanted = hashlib.sha256(content).hexdigest(), stated["files"][csv.name]["sha256"]
        if found != wanted:
            raise DataError(
                f"{csv} is not the file that {path.name} describes "
                f"(SHA-256 {found[:12]}…, there {wanted[:12]}…). {again}"
            )
        if stated["listing"]["fingerprint"] != listing.fingerprint:
            raise DataError(
                f"{csv} was made for other files than those in {listing.root}: "
                f"{_difference(path.parent, stated['listing'], listing)}. {again}"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        version = content["version"]
        if version != VERSION:
            raise DataError(f"{path} has format {version}, this program reads {VERSION}. Make the split again with it.")
        listing = content["listing"]
        _ = content["command"], listing["fingerprint"], listing["images"], listing["names"], listing["classes"].items()
        _ = [stated["sha256"] for stated in content["files"].values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is not what tools/make_splits.py writes: {error!r}. Remove it or restore it."
        ) from error
    return content


def _class_digests(paths: Iterable[str], labeled: bool) -> dict[str, list[Any]]:
    """Class folder → [number of images, digest of their names]; one entry '' for a listing without classes."""
    groups = groupby(paths, lambda path: path.partition("/")[0] if labeled else "")
    result = {}
    for name, members in groups:
        names = [os.fsencode(path) for path in members]
        result[shown(name)] = [len(names), hashlib.sha256(b"\0".join(names)).hexdigest()[:16]]
    return result


def _difference(folder: Path, stated: Mapping[str, Any], listing: Listing) -> str:
    """What is new or missing in ``listing``, naming the first such file, or class where only that can be told."""
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
            first = shown(os.fsdecode(differing[0]))
            verb = "is" if len(differing) == 1 else "are"
            parts.append(f"{len(differing)} {verb} {kind}, {'the first ' if len(differing) > 1 else ''}{first}")
    return "; ".join(parts) or "the same files in another order"


def _stored_names(folder: Path, stated: Mapping[str, Any]) -> list[bytes] | None:
    """The names of the listing that a split was made for; None where they are gone or are those of another."""
    try:
        joined = gzip.decompress((folder / stated["names"]).read_bytes())
    except (OSError, EOFError, zlib.error):
        return None
    return joined.split(b"\0")[:-1] if hashlib.sha256(joined).hexdigest() == stated["fingerprint"] else None


def _differing_class(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]], why: str) -> str:
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if not differing:
        return "the same files in another order"
    counts = [side.get(differing[0], [0])[0] for side in (before, now)]
    return (
        f"{len(differing)} class folders differ, the first {differing[0] or '.'} "
        f"({counts[0]} images then, {counts[1]} now; {why})"
    )
