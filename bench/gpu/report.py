"""The report of ``bench gpu``: Markdown and JSON, whole at any moment, written with the standard library alone."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.environment import Environment
from bench.gpu.findings import Check, Found, Number
from pipelines.files import replacing
from pipelines.names import readable


@dataclass(frozen=True)
class PartResult:
    """Holds what a part found, each assertion once."""

    name: str
    title: str
    seconds: float
    found: list[Found]

    @property
    def checks(self) -> list[Check]:
        """Returns the assertions."""
        return [each for each in self.found if isinstance(each, Check)]

    @property
    def numbers(self) -> list[Number]:
        """Returns the numbers that were measured besides, which no bar judges."""
        return [each for each in self.found if isinstance(each, Number)]


@dataclass(frozen=True)
class Report:
    """All parts so far."""

    command: str
    environment: Environment
    parts: list[PartResult] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """The file names' common part, gpu_<GPU or processor>_<date>."""
        gpus = self.environment.gpus
        hardware = "-".join(re.findall(r"[a-z0-9]+", gpus[0].lower())) if gpus else self.environment.hardware
        return f"gpu_{hardware}_{self.environment.date[:10]}"


def line(found: Found) -> str:
    """Returns one finding as a line for the terminal."""
    if isinstance(found, Number):
        return f"{found.what}: {found.value}"
    return f"{found.status}: {found.what} ({found.detail})"


def said(report: Report) -> str:
    """Returns a line for each part: how many assertions were met, missed and not run."""
    return "\n".join(f"{part.name} {part.title}: {_counts(part.checks)}" for part in report.parts)


def write(report: Report, folder: Path) -> list[Path]:
    """Writes both files, each whole or not at all, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{report.stem}.{suffix}" for suffix in ("md", "json")]
    for path, text in zip(paths, (_markdown(report), _json(report)), strict=True):
        with replacing(path) as building:
            building.write_text(text, encoding="utf-8")
    return paths


def _counts(checks: list[Check]) -> str:
    counted = Counter(check.status for check in checks)
    return ", ".join(f"{counted[status]} {status}" for status in ("met", "missed", "not run") if counted[status])


def _json(report: Report) -> str:
    parts = [
        {
            "name": part.name,
            "title": part.title,
            "seconds": round(part.seconds, 1),
            "checks": [check._asdict() for check in part.checks],
            "numbers": [number._asdict() for number in part.numbers],
        }
        for part in report.parts
    ]
    content = {"command": report.command, "environment": asdict(report.environment), "parts": parts}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _markdown(report: Report) -> str:
    made = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    parts = [
        f"# What a GPU has to prove: {_cell(', '.join(made.gpus) or 'none here')}",
        "\n".join(f"- {part.name} {part.title}: {_counts(part.checks)}" for part in report.parts),
    ]
    for part in report.parts:
        parts.append(f"## {part.name} {part.title}\n\n{part.seconds:.0f} s.")
        parts.append(_table(("assertion", "", "found, or why not"), [tuple(check) for check in part.checks]))
        if part.numbers:
            parts.append(_table(("measured", "value"), [tuple(number) for number in part.numbers]))
    parts.append(
        "\n".join(
            [
                "## Conditions",
                "",
                f"- command: {_cell(report.command)}",
                f"- hardware: {_cell(made.cpu)}, {made.cores} cores, {made.memory_gib} GiB",
                f"- system: {_cell(made.os)}; Python {made.python}",
                f"- versions: {_cell(versions)}",
                f"- commit: {made.commit}{' with local changes' if made.dirty else ''}",
                f"- date: {made.date}; load average before: {made.load_before}",
            ]
        )
    )
    return "\n\n".join(parts) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in lines)


def _cell(text: str) -> str:
    """Returns text that Markdown reads as text alone, on one line."""
    plain = readable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", plain)
