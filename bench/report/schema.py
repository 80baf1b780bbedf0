"""The form of a report's JSON, checked when it is written and when it is read.

Version 1 holds the whole of ``Report`` but its picture. Reports without a version are older: they lack the machine's
parts, the settings' hash, and the numbers of the processes.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.environment import Environment
from bench.measure import Measurement
from bench.report.contents import Rates, Reference, Report, Section
from pipelines.errors import DataError
from pipelines.names import readable

VERSION = 1
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_DERIVED = {"summary"}
"""Top-level fields that are made of others."""


class _Written(BaseModel):
    """A report's fields as the JSON has them; further ones are the report's raw numbers."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    version: Annotated[Literal[0, 1], Field(alias="schema")] = 0
    theme: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    title: str
    command: str
    environment: Environment
    settings: dict[str, str | int | float] = {}
    settings_hash: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    quick: bool = False
    remarks: tuple[str, ...] = ()
    measurement: Measurement | None = None
    references: tuple[Reference, ...] = ()
    facts: dict[str, dict[str, str]] = {}
    not_measured: dict[str, str] = {}
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()


def text_of(content: dict[str, object]) -> str:
    """Returns the JSON of a report's ``content``, checked; bytes in it that are not UTF-8 are spelt as escapes.

    Raises ValidationError, which is our own fault, where the content is not of this version's form.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    text = _NOT_UTF8.sub(lambda found: f"\\\\x{ord(found[0]) - 0xDC00:02x}", text)
    written = _Written.model_validate_json(text)
    assert written.version == VERSION
    assert written.settings_hash
    return text


def load(path: Path) -> Report:
    """Returns the report in a JSON file; an older one has an empty ``environment.machine``.

    Raises DataError where the file cannot be read or holds something else.
    """
    try:
        written = _Written.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"Cannot read the report {readable(path)}: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{readable(path)} is not a report of python -m bench: {readable(place)}: {first['msg']}. "
            "Name a .json of bench/reports, or one that python -m bench loader writes."
        ) from error
    rates = Rates(written.measurement, written.references, written.facts) if written.measurement else None
    fields = ("theme", "title", "command", "environment", "settings", "remarks", "not_measured", "sections", "notes")
    raw = {name: value for name, value in (written.model_extra or {}).items() if name not in _DERIVED}
    return Report(**{name: getattr(written, name) for name in fields}, rates=rates, raw=raw, quick=written.quick)


def version(path: Path) -> int:
    """Returns the version that a report's JSON was written in, 0 for one without."""
    return int(json.loads(path.read_bytes()).get("schema", 0))
