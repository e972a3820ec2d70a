"""Results that others published, from published.json: each with its source, on what it was measured and how chosen.

An entry is there only if its figures were read in a text that can be named, `read_in`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pneumo.report import METRICS, SCORES, percent

_FILE = Path(__file__).with_name("published.json")


def published() -> dict[str, list[dict[str, Any]]]:
    """All entries: on the test split of this data set ("test"), and on others ("stress" and "shortcuts")."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def published_rows() -> list[tuple[str, list[str]]]:
    """Rows for the test table: title, and one cell a metric, which has no interval, or "-" where none was published."""
    return [
        (f"published: {_source(entry)} ({entry['model']})", [_cell(entry["figures"], name) for name in METRICS])
        for entry in published()["test"]
    ]


def published_words(part: str) -> str:
    """What must be known of the entries of "test", "stress" or "shortcuts" in order to read them."""
    entries = published()[part]
    if part == "test":
        parts = [
            f"{_source(entry)} ({entry['model']}, {_link(entry)}): on {entry['measured_on']}; chosen {entry['chosen']}"
            for entry in entries
        ]
        return "\n".join(["Published rows are as their authors give them:\n", *(f"- {words}." for words in parts)])
    parts = [f"{_source(entry)}, on {entry['measured_on']}: {entry['finding']} ({_link(entry)})" for entry in entries]
    return f"No figure published for this data set was found. Elsewhere: {'; '.join(parts)}."


def _source(entry: dict[str, Any]) -> str:
    return f"{entry['citation']}, {entry['year']}" if entry["year"] else entry["citation"]


def _link(entry: dict[str, Any]) -> str:
    if "doi" in entry:
        return f"[doi:{entry['doi']}](https://doi.org/{entry['doi']})"
    return f"[arXiv:{entry['arxiv']}](https://arxiv.org/abs/{entry['arxiv']})"


def _cell(figures: dict[str, float], metric: str) -> str:
    if metric not in figures:
        return "-"
    return f"{figures[metric]:.3f}" if metric in SCORES else percent(figures[metric])
