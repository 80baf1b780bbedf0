"""The JSON file beside a .beton that says what the converter made it of: written, read and checked in this file alone.

Of its keys, ``fingerprint``, ``positions``, ``parameters`` and ``versions`` are the identity of a conversion: all that
shapes the bytes. A conversion is resumed, and parts are merged, only where the identities agree.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, get_args, get_origin, get_type_hints

from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.reading import AS_TORCHVISION, Alpha, Exif, Reading

_IDENTITY = ("fingerprint", "positions", "parameters", "versions")


class Sidecar(TypedDict):
    """Holds the file's content, in its order."""

    fingerprint: str  # of the listing
    positions: str  # SHA-256 of the indices that were asked for
    parameters: dict[str, Any]
    versions: dict[str, str]  # of whatever shapes the bytes
    listed: int  # files in the listing
    asked: int  # of these, files that were to be stored
    date: str
    classes: list[str]
    count: int  # rows
    bytes: int  # of the whole .beton
    originals: int  # rows that hold a file as it is
    fates: dict[str, int]  # status → files
    tables_sha256: str
    left_out: list[tuple[int, str, str]]  # index, path and reason of each skipped file


_KINDS = {key: get_origin(hint) or hint for key, hint in get_type_hints(Sidecar).items()}


def sidecar_path(beton: Path) -> Path:
    """Returns where the sidecar of ``beton`` lies."""
    return beton.with_name(f"{beton.name}.json")


def write_sidecar(beton: Path, sidecar: Sidecar) -> None:
    """Writes the sidecar of ``beton``."""
    sidecar_path(beton).write_text(json.dumps(sidecar, indent=1) + "\n")


def read_sidecar(beton: Path) -> Sidecar:
    """Returns what ``beton`` was made of. Raises DataError where that is not what the converter writes."""
    path = sidecar_path(beton)
    try:
        content: Sidecar = json.loads(path.read_text())
        problem = _problem(content)
    except OSError as error:
        raise DataError(
            f"{readable(path)} cannot be read ({error}), and nothing else says what {readable(beton)} was made of."
        ) from error
    except ValueError as error:
        problem = f"it is no JSON ({error})"
    if problem:
        raise DataError(f"{readable(path)} is not what the converter writes: {problem}. Restore it.")
    return content


def _problem(content: Any) -> str:
    """Says what is wrong with a sidecar's content; empty where it is as it should be."""
    if not isinstance(content, dict):
        return f"it holds {type(content).__name__}, not a table"
    for key, kind in _KINDS.items():
        if key not in content:
            return f"it has no {key!r}"
        if not isinstance(content[key], kind):
            return f"{key!r} is {content[key]!r}, which is no {kind.__name__}"
    for entry in content["left_out"]:
        if not (isinstance(entry, list) and [type(value) for value in entry] == [int, str, str]):
            return f"'left_out' lists {entry!r}, which is not an index, a path and a reason"
    return ""


def identity_in(sidecar: Sidecar) -> dict[str, Any]:
    """Returns all that shapes a file's bytes, as its sidecar states it."""
    return whole_identity({key: sidecar[key] for key in _IDENTITY})  # type: ignore[literal-required]


def whole_identity(stated: dict[str, Any]) -> dict[str, Any]:
    """Returns an identity with the parameters that older versions did not have, and did as the defaults do."""
    return {**stated, "parameters": {**asdict(AS_TORCHVISION), **stated["parameters"]}}


def reading_in(sidecar: Sidecar) -> Reading:
    """Returns how the files were read that a .beton was made of. Raises DataError where there is no such way."""
    parameters = identity_in(sidecar)["parameters"]
    alpha, exif = parameters["alpha"], parameters["exif"]
    if alpha not in get_args(Alpha) or exif not in get_args(Exif):
        raise DataError(f"Its sidecar states alpha {alpha!r} and exif {exif!r}, which the converter never writes.")
    return Reading(alpha, exif)


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Returns how two identities differ, for a message; empty where they agree."""
    flat = [{**each, **each.get("parameters", {}), **each.get("versions", {})} for each in (one, other)]
    keys = [key for key in {**flat[0], **flat[1]} if key not in ("parameters", "versions")]
    return ", ".join(
        f"{key} {flat[0].get(key)} (now {flat[1].get(key)})" for key in keys if flat[0].get(key) != flat[1].get(key)
    )
