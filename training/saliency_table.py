"""The table of `python -m benchmarks saliency`, and the method that its rule chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.report import percent, title
from training.markdown import markdown_table, with_interval
from training.metrics import wilson_interval

MOST_PASSES, MOST_BLANK, MOST_LIKENESS = 10, 0.01, 0.2
"""The rule of benchmarks/saliency.py by which the default method is chosen, in numbers."""
_PLACES = {
    "share": ("heat in the lungs", 2),
    "ratio": ("times chance", 2),
    "opaque": ("of the heat in the lungs, in their brightest third (chance 0.33)", 2),
    "peak": ("peak in the lungs", 2),
}
_CURVES = {
    "insertion": ("insertion", 3),
    "deletion": ("deletion", 3),
    "gain": ("insertion - deletion", 3),
    "beyond": ("the same beyond the best of the orders", 3),
}
_LOG_ODDS = {f"{key}_log_odds": (f"{words}, log odds", 2) for key, (words, _) in _CURVES.items()}
_OTHERS = {"road": ("ROAD", 3), "drop": ("average drop", 2)}
_SIMILARITIES = {"seeds": "other seeds", "noise": "noise", "exposure": "gamma 0.8"}
_ONCE_COMPARED = 12
"""Images whose maps were compared with others in measurements that do not say how many."""


def saliency_table(measured: dict[str, Any]) -> str:
    """The saliency benchmark of one split: a row a method and network, and the orders that need no network.

    A measurement without log odds, intervals of rank correlations, or processor time is shown without them.
    """
    all_rows = [row for found in measured["networks"].values() for row in found["methods"].values()]
    known = _PLACES | _CURVES | _LOG_ODDS | _OTHERS
    means = {key: words for key, words in known.items() if all(key in row for row in all_rows)}
    columns = [words for words, _ in means.values()]
    columns += ["rank correlation: weights random from the top down to the head / block 5 / block 3 / all"]
    columns += [f"rank correlation: {words}" for words in _SIMILARITIES.values()]
    columns += ["blank", "ms", "ms of processor time", "images", "of them for rank correlations"]
    rows = []
    for name, found in measured["networks"].items():
        for method, row in found["methods"].items():
            line = [_mean(key, row, digits) for key, (_, digits) in means.items()]
            line += [" / ".join(map(_correlation, row["cascade"].values()))]
            line += [_correlation(row[key]) for key in _SIMILARITIES]
            line += [_blank(row), f"{row['milliseconds']:.0f}", _processor(row)]
            line += [str(row["images"]), str(_compared(row))]
            rows.append((f"{title(name)}: {METHODS[method].title}", line))
        for kind, entry in found["baselines"].items():
            gains = {"gain": entry, "gain_log_odds": found.get("baselines_log_odds", {}).get(kind)}
            line = [with_interval(gains[key], digits) if gains.get(key) else "" for key, (_, digits) in means.items()]
            rows.append((f"{title(name)}: {kind} order", line + [""] * (len(columns) - len(line))))
    return markdown_table(columns, rows)


_GOALS = {"share": "at least 0.75", "peak": "at least 0.95", "beyond": "above 0, interval and all"}
_OF_DEFAULT = ("share", "ratio", "opaque", "peak", "gain", "beyond", "beyond_log_odds")
_SPLITS = {"held out": "held out, which it was chosen by", "test": "test"}


def default_table(measured: dict[str, Any]) -> str:
    """The default method on each split that was measured, beside the goals."""
    means = _PLACES | _CURVES | _LOG_ODDS
    columns = [means[key][0] for key in _OF_DEFAULT] + ["rank correlation, weights all random", "images"]
    # Of a difference that stands alone, not beside what it is a difference of.
    columns = [words.replace("the same", "insertion - deletion") for words in columns]
    rows = []
    for split, content in measured.items():
        for name, found in content["networks"].items():
            if row := found["methods"].get(DEFAULT_METHOD):
                line = [_mean(key, row, means[key][1]) if key in row else "-" for key in _OF_DEFAULT]
                line += [_correlation(list(row["cascade"].values())[-1]), str(row["images"])]
                rows.append((f"{title(name)}, {_SPLITS[split]}", line))
    goals = [_GOALS.get(key, "") for key in _OF_DEFAULT]
    return markdown_table(columns, [*rows, ("goal", [*goals, f"below {MOST_LIKENESS}", ""])])


def best_method(measured: dict[str, Any]) -> str:
    """The method that the rule of benchmarks/saliency.py chooses, from what was measured on held-out images."""
    networks = list(measured["networks"].values())
    quick = [
        method
        for method in networks[0]["methods"]
        if METHODS[method].passes <= MOST_PASSES
        and all(found["methods"][method]["blank"] <= MOST_BLANK for found in networks)
    ]
    likeness = {
        method: max(abs(_value(list(found["methods"][method]["cascade"].values())[-1]) or 0) for found in networks)
        for method in quick
    }
    unlike = [method for method in quick if likeness[method] < MOST_LIKENESS]
    gain = {method: sum(found["methods"][method]["gain"]["value"] for found in networks) for method in unlike or quick}
    return max(gain, key=lambda method: gain[method])


def _mean(key: str, row: Mapping[str, Any], digits: int) -> str:
    entry = row[key]
    if key.startswith("beyond"):
        entry = min(entry.values(), key=lambda order: order["value"])
    if key == "peak" and entry["value"] in (0, 1):
        # Resampling knows no spread where all or none are hits.
        entry = entry | {"interval": wilson_interval(round(entry["value"] * row["images"]), row["images"])}
    return with_interval(entry, digits)


def _blank(row: Mapping[str, Any]) -> str:
    low, high = wilson_interval(round(row["blank"] * row["images"]), row["images"])
    return f"{percent(row['blank'], 0)} [{percent(low, 0)}, {percent(high, 0)}]"


def _processor(row: Mapping[str, Any]) -> str:
    return f"{row['processor_milliseconds']:.0f}" if "processor_milliseconds" in row else "-"


def _compared(row: Mapping[str, Any]) -> int:
    return row.get("compared", min(_ONCE_COMPARED, row["images"]))


def _value(correlation: Mapping[str, Any] | float | None) -> float | None:
    return correlation["value"] if isinstance(correlation, Mapping) else correlation


def _correlation(entry: Mapping[str, Any] | float | None) -> str:
    if isinstance(entry, Mapping):
        return with_interval(entry, 2)
    return "-" if entry is None else f"{entry:.2f}"
