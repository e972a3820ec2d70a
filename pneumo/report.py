"""The test metrics of a manifest as table cells: one source for the page, the README and the card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pneumo.zoo import architecture

METRICS = {
    "auc": "ROC AUC",
    "accuracy": "accuracy at the operating point",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "f1_pneumonia": "F1 pneumonia",
    "f1_normal": "F1 normal",
}
"""Metrics of the table, in order, with their titles."""
DETAILS = {
    "auc_same_sizes": "ROC AUC among originals of the same sizes",
    "sensitivity_at_specificity_90": "sensitivity at specificity 0.90",
    "specificity_at_sensitivity_95": "specificity at sensitivity 0.95",
    "sensitivity_bacterial": "sensitivity, bacterial",
    "sensitivity_viral": "sensitivity, viral",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "accuracy_at_half": "accuracy at 0.5",
}
"""Metrics of the second table."""
CONFUSION = ("true_positives", "false_negatives", "false_positives", "true_negatives")
"""Counts that add up to the test images."""
SCORES = {"auc", "auc_same_sizes", "mcc", "ece", "brier"}
"""Metrics that are no shares."""


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


def title(name: str) -> str:
    """What a network, or "together", is called in tables and figures."""
    return "mean of the networks" if name == "together" else architecture(name).title


CALIBRATED = (
    "Probabilities of pneumonia are calibrated on held-out radiographs as if every second one showed it; where it is "
    "rarer, they overstate it."
)
"""What the numbers mean, in one sentence."""


def calibration_words(manifest: dict[str, Any]) -> str:
    """What the probabilities were calibrated for, and what they were worth on the test split where that is known."""
    words = (
        f"{CALIBRATED} The method is Platt scaling on those radiographs as they are and under every stress, with both "
        "classes weighted alike."
    )
    test = (manifest["together"] or {}).get("test", {})
    (error,) = cells(test, ("ece",))
    if error is None:
        return words
    return (
        f"{words} On the official test split, {percent(test['prevalence'], 0)} of which shows pneumonia, the "
        f"{title('together')} was off by {error.value} {error.interval} on average (expected calibration error)."
    )


def test_rows(manifest: dict[str, Any], *metrics: str) -> Iterator[tuple[str, list[Cell | None]]]:
    """The rows of a test table: title, and one cell a metric, or None where it is not known.

    The networks come first, then their mean, then the floors that any network must clear. The metrics are by
    default those of `METRICS`.
    """
    metrics = metrics or tuple(METRICS)
    for name, entry in manifest["networks"].items():
        yield title(name), cells(entry.get("test", {}), metrics)
    if manifest["together"] and len(manifest["networks"]) > 1:
        yield title("together"), cells(manifest["together"].get("test", {}), metrics)
    for floor in manifest.get("floors", ()):
        yield floor["title"], cells(floor["test"], metrics)


def cells(measured: dict[str, Any], metrics: Iterable[str]) -> list[Cell | None]:
    """One cell a metric, or None where it is not known."""
    return [_cell(measured.get(name), name in SCORES) for name in metrics]


def _cell(metric: dict[str, Any] | None, score: bool) -> Cell | None:
    if metric is None:
        return None
    value, (low, high) = metric["value"], metric["interval"]
    if score:
        return Cell(f"{value:.3f}", f"[{low:.3f}, {high:.3f}]")
    return Cell(f"{value * 100:.1f} %", f"[{low * 100:.1f}, {high * 100:.1f}]")
