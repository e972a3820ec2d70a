"""Pieces of Markdown tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any


def markdown_table(titles: Collection[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """A table in Markdown; each row is its title and its cells."""
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join([name, *row])} |" for name, row in rows)])


def signed(value: float) -> str:
    """With its sign, but never minus zero."""
    return f"{round(value, 3) + 0.0:+.3f}"


def with_interval(entry: Mapping[str, Any], digits: int) -> str:
    """A measure, {"value", "interval"}, with its interval behind it."""
    low, high = entry["interval"]
    return f"{entry['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
