"""How far many radiographs are, and how long the rest will take, in words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, TextIO

_WATCHED, _EVERY = 0.5, 10.0
"""Seconds between two words of progress on a terminal, and elsewhere."""


@dataclass
class Progress:
    """How many rows there are, and how long the rest will take.

    Attributes
    ----------
    total : int
        Radiographs of the source.
    stream : text stream or None
        Where it is said; a line that is rewritten on a terminal, else one line now and then.
    rows, refused : int
        Rows that are there, and those of them that were refused.
    asked : int
        Rows that were added since the start.
    started, said : float
        `time.perf_counter` at the start, and when it was last said.
    """

    total: int
    stream: TextIO | None
    rows: int = 0
    refused: int = 0
    asked: int = 0
    started: float = field(default_factory=time.perf_counter)
    said: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.started

    def skip(self, rows: int, refused: int) -> None:
        """Count rows that were there already."""
        self.rows, self.refused = self.rows + rows, self.refused + refused

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count new rows, and say so from time to time."""
        self.skip(len(rows), sum("error" in row for row in rows))
        self.asked += len(rows)
        now = time.perf_counter()
        watched = self.stream is not None and self.stream.isatty()
        if self.stream is not None and now - self.said >= (_WATCHED if watched else _EVERY):
            self.said = now
            line, end = (f"\r{self.words:<78}", "") if watched else (self.words, "\n")
            print(line, end=end, file=self.stream, flush=True)

    def end(self) -> None:
        """Clear the line of a terminal."""
        if self.stream is not None and self.stream.isatty():
            print(f"\r{'':<78}\r", end="", file=self.stream, flush=True)

    @property
    def words(self) -> str:
        """How far it is."""
        rate = self.asked / max(self.seconds, 1e-3)
        left = (self.total - self.rows) / max(rate, 1e-3)
        refused = f", {self.refused:,} refused" if self.refused else ""
        return (
            f"{self.rows:,} of {self.total:,} ({self.rows / max(self.total, 1):.0%}){refused}, "
            f"{rate:.1f} a second, {duration(left)} left"
        )


def duration(seconds: float) -> str:
    """A time as a person says it, such as "3 min" or "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
