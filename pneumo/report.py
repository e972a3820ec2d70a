"""The test metrics of a manifest as table cells: one source for the page, the README and the card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pneumo.zoo import architecture

METRICS = {
    "auc": "ROC AUC",
    "accuracy": "accuracy at the operating point",
    "accuracy_at_half": "accuracy at 0.5",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1_pneumonia": "F1 pneumonia",
    "f1_normal": "F1 normal",
}
"""Metrics of the table, in order, with their titles."""
CONFUSION = ("true_positives", "false_negatives", "false_positives", "true_negatives")
"""Counts that add up to the test images."""
_SCORES = {"auc"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of the table with its 95 % interval, both in words."""

    value: str
    interval: str


def confusion(entry: dict[str, Any]) -> dict[str, int]:
    """Counts of a network's entry in the manifest, by the names of `CONFUSION`."""
    return {name: round(entry["test"][name]["value"]) for name in CONFUSION}


def percent(share: float, digits: int = 1) -> str:
    """A share, 0 to 1, in percent."""
    return f"{share * 100:.{digits}f} %"


def probability(value: float) -> str:
    """A network's probability in percent. It never claims certainty, not even where a float has saturated."""
    if value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.999 else percent(value)


def test_rows(manifest: dict[str, Any]) -> Iterator[tuple[str, list[Cell | None]]]:
    """The rows of the test table: title, and one cell a metric or None where it is not known.

    The networks come first, then their mean, then the floor that any network must clear.
    """
    for name, entry in manifest["networks"].items():
        yield architecture(name).title, _cells(entry.get("test", {}))
    if manifest["together"]:
        yield "mean of the three", _cells(manifest["together"].get("test", {}))
    for floor in manifest.get("floors", ()):
        yield floor["title"], _cells(floor["test"])


def _cells(metrics: dict[str, Any]) -> list[Cell | None]:
    return [_cell(metrics.get(name), name in _SCORES) for name in METRICS]


def _cell(metric: dict[str, Any] | None, score: bool) -> Cell | None:
    if metric is None:
        return None
    value, (low, high) = metric["value"], metric["interval"]
    if score:
        return Cell(f"{value:.3f}", f"[{low:.3f}, {high:.3f}]")
    return Cell(f"{value * 100:.1f} %", f"[{low * 100:.1f}, {high * 100:.1f}]")
