"""What a gate refuses and warns of, as tables."""

from __future__ import annotations

from typing import Any

from pneumo.report import percent
from training.markdown import markdown_table
from training.metrics import wilson_interval


def gate_table(report: dict[str, Any]) -> str:
    """Three tables in Markdown of what `training.gate_report.measure_gate` counted."""
    kinds = [("**all that are no chest radiographs**", [_share(report["others"]), _lungs(report["others"])])]
    kinds += [
        (f"{kind}{'' if entry['fitted'] else ', a kind never fitted'}", [_share(entry), _lungs(entry)])
        for kind, entry in report["kinds"].items()
    ]
    odd = []
    for title, entry in report["odd"].items():
        wanted = entry["wanted"]
        cells = [_share(entry, entry["warned"].get(wanted, 0)), str(entry["refused"]), _warned(entry, wanted)]
        odd.append((f"test radiographs, {title}", cells))
    return "\n\n".join(
        [
            markdown_table(["refused", "two lungs found"], kinds),
            markdown_table(
                ["refused", "two lungs found", "warnings"],
                [
                    (title, [_share(entry), _lungs(entry), _warned(entry)])
                    for title, entry in report["radiographs"].items()
                ],
            ),
            markdown_table(["warned of", "refused", "other warnings"], odd),
        ]
    )


def _share(entry: dict[str, Any], count: int | None = None) -> str:
    count, total = entry["refused"] if count is None else count, entry["images"]
    low, high = (100 * bound for bound in wilson_interval(count, total))
    return f"{count} of {total}, {percent(count / total)} [{low:.1f}, {high:.1f}]"


def _lungs(entry: dict[str, Any]) -> str:
    return _share(entry, entry["lungs"])


def _warned(entry: dict[str, Any], but: str = "") -> str:
    return ", ".join(f"{name} {count}" for name, count in entry["warned"].items() if name != but) or "-"
