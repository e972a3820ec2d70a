"""The table of all networks, and its place in README.md."""

from __future__ import annotations

import re
from pathlib import Path

from pneumo.bundle import FolderFiles, read_manifest
from pneumo.report import METRICS, test_rows
from training.errors import TrainingError

_MARKED = re.compile(r"(<!-- table:test -->\n).*?(<!-- /table:test -->)", re.DOTALL)


def table(folder: Path) -> str:
    """The test table of a bundle as Markdown, with 95 % intervals.

    Raises
    ------
    BundleError
        If the folder holds no bundle.
    """
    lines = ["| | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for title, cells in test_rows(read_manifest(FolderFiles(str(folder)))):
        texts = [f"{cell.value} {cell.interval}".strip() if cell else "-" for cell in cells]
        lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


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
