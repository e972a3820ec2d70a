"""The tables of README.md and of the model card, from a bundle's manifest.json, metrics.json and ablation.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pneumo.bundle import ABLATION, GATE_RECORD, SALIENCY, SYSTEMS, FolderFiles, read_manifest
from pneumo.bundle import METRICS as METRICS_FILE
from pneumo.report import DETAILS, METRICS, cells, percent, test_rows, title
from training.errors import TrainingError
from training.gate_table import gate_table
from training.markdown import markdown_table, signed
from training.saliency_table import default_table, saliency_table
from training.systems import results_table as systems_results

_MARK = "<!-- table:{name} -->\n"
_END = "<!-- /table:{name} -->"
_PUBLISHED = ("published: Kermany et al., Cell 172(5), 2018 (Inception-v3)", ("0.968", "92.8 %", "93.2 %", "90.1 %"))
_GOALS = {"auc": 0.985, "accuracy": 0.945, "sensitivity": 0.92, "specificity": 0.92, "ece": 0.04}


def tables(folder: Path) -> dict[str, str]:
    """Every table of an evaluated bundle as Markdown, by the name of its mark in README.md.

    Raises
    ------
    BundleError
        If the folder holds no bundle.
    TrainingError
        If it has not been evaluated.
    """
    manifest = read_manifest(FolderFiles(str(folder)))
    report = read_json(folder / METRICS_FILE)
    if report is None:
        raise TrainingError(f"Tables need an evaluated bundle; {folder} is none. Run `python -m training evaluate`.")
    result = {"test": results_table(manifest, report), "details": details_table(manifest)}
    makers: dict[str, Callable[[Any], str]] = {
        "seeds": seeds_table,
        "stress": stress_table,
        "originals": originals_table,
        "shortcuts": lambda rows: shortcuts_table(rows, report.get("beside", {})),
        "lungs": lungs_words,
    }
    result |= {name: make(report[name]) for name, make in makers.items() if report.get(name)}
    if ablation := read_json(folder / ABLATION):
        result["ablation"] = ablation_table(ablation)
    if systems := read_json(folder / SYSTEMS):
        result["systems"] = systems_results(systems)
    if gate := read_json(folder / GATE_RECORD):
        result["gate"] = gate_table(gate)
    if saliency := read_json(folder / SALIENCY):
        result["saliency_default"] = default_table(saliency)
        result |= {f"saliency_{split.replace(' ', '_')}": saliency_table(found) for split, found in saliency.items()}
    return result


def read_json(path: Path) -> Any:
    """What a JSON file holds; None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def results_table(manifest: dict[str, Any], report: dict[str, Any] | None = None) -> str:
    """The test table: the networks, their mean, the floors, and, from metrics.json, another recipe beside them."""
    rows = [(name, _words(row)) for name, row in test_rows(manifest)]
    beside: dict[str, Any] = (report or {}).get("beside", {})
    for name, measured in beside.get("test", {}).items():
        rows.append((f"{beside['recipe']} recipe: {title(name)}", _words(cells(measured, METRICS))))
    if report:
        rows.append((_PUBLISHED[0], [*_PUBLISHED[1], *["-"] * (len(METRICS) - len(_PUBLISHED[1]))]))
    return "\n\n".join(filter(None, (markdown_table(METRICS.values(), rows), _above_floor(manifest))))


def details_table(manifest: dict[str, Any]) -> str:
    """The second test table: fixed sensitivities and specificities, subgroups, calibration."""
    rows = [(name, _words(row)) for name, row in test_rows(manifest, *DETAILS)]
    return markdown_table(DETAILS.values(), rows)


def _words(row: list) -> list[str]:
    return [f"{cell.value} {cell.interval}" if cell else "-" for cell in row]


def _above_floor(manifest: dict[str, Any]) -> str:
    """How far each network's ROC AUC is above the first floor's, in words; "" if none was evaluated."""
    parts = []
    for name, entry in manifest["networks"].items():
        if difference := entry.get("test", {}).get("auc_above_floor"):
            low, high = difference["interval"]
            parts.append(f"{title(name)} {signed(difference['value'])} [{signed(low)}, {signed(high)}]")
    if not parts:
        return ""
    return f"ROC AUC beyond that of the nearest neighbours, paired on the same patients: {', '.join(parts)}."


def seeds_table(seeds: dict[str, Any]) -> str:
    """Mean and spread over the seeds of each network, beside the goals."""
    words = METRICS | DETAILS | {"auc": "ROC AUC", "ece": "ECE"}
    columns = ["seeds", *(f"{words[key]}, mean ± SD" for key in _GOALS)]
    rows = []
    for name, entry in seeds.items():
        spread, (low, high) = entry["spread"], entry["auc"]["interval"]
        row = [str(len(entry["seeds"])), f"{_with_spread(spread['auc'])} [{low:.3f}, {high:.3f}]"]
        rows.append((title(name), [*row, *(_with_spread(spread[key]) for key in _GOALS if key != "auc")]))
    goals = [f"{'at most' if key == 'ece' else 'at least'} {goal}" for key, goal in _GOALS.items()]
    return markdown_table(columns, [*rows, ("goal", ["3", *goals])])


def _with_spread(entry: dict[str, Any]) -> str:
    return f"{entry['mean']:.3f}" + (f" ± {entry['sd']:.3f}" if entry["sd"] is not None else "")


def stress_table(stress: dict[str, dict[str, Any]]) -> str:
    """What each stress costs each network at its operating point."""
    names = list(next(iter(stress.values())))

    def cell(entry: dict[str, Any]) -> str:
        return (
            f"{entry['auc']:.3f}; {signed(-entry['loss_of_sensitivity'])} / "
            f"{signed(-entry['loss_of_specificity'])}; {entry['flips']}"
        )

    rows = [(name, [cell(entries[network]) for network in names]) for name, entries in stress.items()]
    largest = [
        f"{max(max(row[name]['loss_of_sensitivity'], row[name]['loss_of_specificity']) for row in stress.values()):.3f}"
        for name in names
    ]
    head = [f"{title(name)}: AUC; change of sensitivity / specificity; flips" for name in names]
    return markdown_table(head, [*rows, ("**largest loss** (goal: at most 0.05)", largest)])


def originals_table(originals: dict[str, dict[str, Any]]) -> str:
    """How many decisions flip between published originals and their stored copies."""
    names = [name for name in next(iter(originals.values())) if name != "images"]
    rows = [
        (
            f"{way}, {entries['images']} images",
            [f"{entries[name]['flips']} flips; mean change {entries[name]['mean_change']:.3f}" for name in names],
        )
        for way, entries in originals.items()
    ]
    return markdown_table([title(name) for name in names], rows)


def shortcuts_table(shortcuts: dict[str, dict[str, Any]], beside: dict[str, Any]) -> str:
    """The ROC AUC that each network keeps where only shortcuts are left; beside it, that of another recipe."""

    def cell(entry: dict[str, Any]) -> str:
        low, high = entry["interval"]
        return f"{entry['value']:.3f} [{low:.3f}, {high:.3f}]"

    others = beside.get("shortcuts", {})
    head = [title(name) for name in next(iter(shortcuts.values()))]
    rows = [(name, [cell(entry) for entry in entries.values()]) for name, entries in shortcuts.items()]
    if others:
        head.append(f"{beside['recipe']} recipe: {title('together')}")
        rows = [(name, [*row, cell(others[name]["together"])]) for name, row in rows]
    return markdown_table(head, rows)


def lungs_words(lungs: dict[str, Any]) -> str:
    """How well the lungs are found, in one sentence."""
    parts = [
        f"{name} {lungs[key]['value']:.3f} [{lungs[key]['interval'][0]:.3f}, {lungs[key]['interval'][1]:.3f}]"
        for key, name in (("dice", "Dice coefficient"), ("iou", "intersection over union"))
    ]
    return (
        f"On the {lungs['images']} test masks that people drew: {', '.join(parts)}; "
        f"two lungs were found on {lungs['images'] - lungs['not_found']} of these radiographs."
    )


def ablation_table(results: dict[str, dict[str, Any]]) -> str:
    """The ablation, the best score first; pairs are patients at random / the block of consecutive patients."""
    columns = [
        "score ± SD of seeds",
        "AUC, random patients",
        "AUC, block",
        "AUC under the worst stress",
        "AUC, all but the lungs black",
        "AUC, lungs black",
        "AUC, lungs filled",
        "ECE before calibration",
    ]
    rows = []
    for row in sorted(results.values(), key=lambda row: -row["score"]):
        first, second = row["validation"], row["block"]
        line = [f"{row['score']:.4f} ± {row['spread']:.4f}"]
        for part in (first, second):
            low, high = part["auc"]["interval"]
            line.append(f"{part['auc']['value']:.3f} [{low:.3f}, {high:.3f}]")
        pairs = [(first["stressed"], second["stressed"])]
        for name in ("all but the lungs black", "lungs black", "lungs filled from around"):
            pairs.append((first["shortcuts"][name], second["shortcuts"][name]))
        pairs.append((first["ece"], second["ece"]))
        rows.append((row["title"], line + [f"{one:.3f} / {two:.3f}" for one, two in pairs]))
    return markdown_table(columns, rows)


def uncertain_words(uncertain: dict[str, Any]) -> str:
    """What the uncertain answers are worth, in one sentence."""
    words = f"{uncertain['images']} test images ({percent(uncertain['share'])}) get the answer uncertain"
    certain = uncertain["accuracy_certain"]
    if certain["value"] is None:
        return f"All {words}."
    low, high = certain["interval"]
    return (
        f"{words}; on the others {percent(certain['value'])} of the decisions are right "
        f"(95 % interval {percent(low)} to {percent(high)})."
    )


def insert_tables(readme: Path, content: dict[str, str]) -> None:
    """Put tables between the marks of a README, `<!-- table:NAME -->` and `<!-- /table:NAME -->`.

    Raises
    ------
    TrainingError
        If the file cannot be read or has no mark for the table "test". Other tables without a mark are left out.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TrainingError(f"The table's file must be text that can be read; {readme} is not ({error}).") from error
    for name, body in content.items():
        mark, end = _MARK.format(name=name), _END.format(name=name)
        found = re.compile(f"({re.escape(mark)}).*?({re.escape(end)})", re.DOTALL)
        if found.search(text):
            text = found.sub(rf"\g<1>{body.replace(chr(92), chr(92) * 2)}\n\g<2>", text)
        elif name == "test":
            raise TrainingError(f"The table's place must be marked by {mark.strip()}; {readme} has no such mark.")
    readme.write_text(text, encoding="utf-8")
