"""The table of all networks, and its place in README.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pneumo.bundle import FolderFiles, read_manifest
from pneumo.report import METRICS, test_rows
from pneumo.zoo import architecture
from training.errors import TrainingError

_MARKED = re.compile(r"(<!-- table:test -->\n).*?(<!-- /table:test -->)", re.DOTALL)


def table(folder: Path) -> str:
    """The test table of a bundle as Markdown, with 95 % intervals.

    Raises
    ------
    BundleError
        If the folder holds no bundle.
    """
    return results_table(read_manifest(FolderFiles(str(folder))))


def results_table(manifest: dict[str, Any]) -> str:
    """The test table of a manifest as Markdown: the networks, their mean, and the floors."""
    rows = (
        (title, [f"{cell.value} {cell.interval}" if cell else "-" for cell in cells])
        for title, cells in test_rows(manifest)
    )
    return "\n\n".join(filter(None, (markdown_table(METRICS.values(), rows), _above_floor(manifest))))


def _above_floor(manifest: dict[str, Any]) -> str:
    """How far each network's ROC AUC is above the first floor's, in words; "" if none was evaluated."""
    parts = []
    for name, entry in manifest["networks"].items():
        if difference := entry.get("test", {}).get("auc_above_floor"):
            low, high = difference["interval"]
            parts.append(f"{architecture(name).title} {difference['value']:+.3f} [{low:+.3f}, {high:+.3f}]")
    if not parts:
        return ""
    return (
        f"ROC AUC beyond that of the nearest neighbours, paired on the same patients: {', '.join(parts)}. To clear a "
        "floor does not show that a network looks at lungs."
    )


def markdown_table(titles: Collection[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """A table in Markdown; each row is its title and its cells."""
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join([title, *cells])} |" for title, cells in rows)])


def insert_table(readme: Path, content: str) -> None:
    """Put a table between the markers of a README.

    Raises
    ------
    TrainingError
        If the file cannot be read or has no markers.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TrainingError(f"The table's file must be text that can be read; {readme} is not ({error}).") from error
    if not _MARKED.search(text):
        raise TrainingError(f"The table's place must be marked by <!-- table:test -->; {readme} has no such mark.")
    readme.write_text(_MARKED.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text), encoding="utf-8")
