"""The tables of README.md and of the model card, from a bundle's manifest.json, metrics.json and ablation.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pneumo.bundle import ABLATION, GATE_RECORD, SALIENCY, SYSTEMS, FolderFiles, read_manifest
from pneumo.bundle import METRICS as METRICS_FILE
from pneumo.report import DETAILS, METRICS, calibration_words, cells, percent, test_rows, title
from training.balance import epoch_images
from training.errors import TrainingError
from training.gate_table import gate_table
from training.markdown import markdown_table, signed, with_interval
from training.published import published_rows, published_words
from training.saliency_table import default_table, saliency_table
from training.systems import results_table as systems_results

_MARK = "<!-- table:{name} -->\n"
_END = "<!-- /table:{name} -->"
_GOALS = {"auc": 0.985, "accuracy": 0.945, "sensitivity": 0.92, "specificity": 0.92, "ece": 0.04}

_UNDECIDED = (
    "-: the networks were calibrated anew (`training calibrate`) when the trainings of other seeds were no longer at "
    "hand, so that of these only the ROC AUC, which no calibration changes, is known. Those of the seed that ships are "
    "in the table of the test."
)


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
    beside: dict[str, Any] = report.get("beside", {})
    result = {
        "test": results_table(manifest, report),
        "details": details_table(manifest, report),
        "calibration": calibration_words(manifest),
    }
    makers: dict[str, Callable[[Any], str]] = {
        "seeds": seeds_table,
        "stress": lambda rows: _paragraphs(stress_table(rows, beside), _stress_words(rows), published_words("stress")),
        "originals": originals_table,
        "shortcuts": lambda rows: _paragraphs(
            shortcuts_table(rows, beside, report.get("floors", ())),
            _shortcuts_words(rows, beside, _blind(manifest)),
            published_words("shortcuts"),
        ),
        "lungs": lungs_words,
    }
    result |= {name: make(report[name]) for name, make in makers.items() if report.get(name)}
    if ablation := read_json(folder / ABLATION):
        result["ablation"] = ablation_table(ablation, manifest["data"]["counts"]["train"])
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


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def results_table(manifest: dict[str, Any], report: dict[str, Any] | None = None) -> str:
    """The test table: the networks, their mean, the floors; with a report, another recipe and published results."""
    rows = [(name, _words(row)) for name, row in test_rows(manifest)] + _beside_rows(report, METRICS)
    parts = [markdown_table(METRICS.values(), [*rows, *(published_rows() if report else ())]), _above_floor(manifest)]
    return _paragraphs(*parts, published_words("test") if report else "")


def details_table(manifest: dict[str, Any], report: dict[str, Any] | None = None) -> str:
    """The second test table: fixed sensitivities and specificities, subgroups, calibration."""
    rows = [(name, _words(row)) for name, row in test_rows(manifest, *DETAILS)] + _beside_rows(report, DETAILS)
    return markdown_table(DETAILS.values(), rows)


def _beside_rows(report: dict[str, Any] | None, metrics: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The networks of another recipe, where a report has them beside its own."""
    beside: dict[str, Any] = (report or {}).get("beside", {})
    return [
        (f"{beside['recipe']} recipe: {title(name)}", _words(cells(measured, metrics)))
        for name, measured in beside.get("test", {}).items()
    ]


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
        rows.append((title(name), [*row, *(_with_spread(spread.get(key)) for key in _GOALS if key != "auc")]))
    goals = [f"{'at most' if key == 'ece' else 'at least'} {goal}" for key, goal in _GOALS.items()]
    table = markdown_table(columns, [*rows, ("goal", ["3", *goals])])
    if all(entry["spread"].keys() >= _GOALS.keys() for entry in seeds.values()):
        return table
    return _paragraphs(table, _UNDECIDED)


def _with_spread(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    return f"{entry['mean']:.3f}" + (f" ± {entry['sd']:.3f}" if entry["sd"] is not None else "")


def stress_table(stress: dict[str, dict[str, Any]], beside: dict[str, Any] | None = None) -> str:
    """What each stress costs each network at its operating point; beside it, the mean of another recipe."""
    columns = {
        title(name): {row: entries[name] for row, entries in stress.items()} for name in next(iter(stress.values()))
    }
    if beside and beside.get("stress"):
        others = {row: entries["together"] for row, entries in beside["stress"].items()}
        columns[f"{beside['recipe']} recipe: {title('together')}"] = others

    def cell(entry: dict[str, Any] | None) -> str:
        if entry is None:
            return "-"
        # An evaluation by an older release kept no intervals.
        low, high = entry.get("intervals", {}).get("auc", (None, None))
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        change = f"{signed(-entry['loss_of_sensitivity'])} / {signed(-entry['loss_of_specificity'])}"
        return f"{entry['auc']:.3f}{interval}; {change}; {entry['flips']}"

    rows = [(name, [cell(column.get(name)) for column in columns.values()]) for name in stress]
    largest = [
        f"{max(max(row['loss_of_sensitivity'], row['loss_of_specificity']) for row in column.values()):.3f}"
        for column in columns.values()
    ]
    head = [f"{name}: AUC; change of sensitivity / specificity; flips" for name in columns]
    return markdown_table(head, [*rows, ("**largest loss** (goal: at most 0.05)", largest)])


def _stress_words(stress: dict[str, dict[str, Any]]) -> str:
    """What an evaluation by an older release did not try, in one sentence; "" for one by this release."""
    if all("intervals" in entry for entry in stress.get("16-bit input", {}).values()):
        return ""
    return (
        "This evaluation is older than the present 16-bit input: its 16-bit files held the 8-bit values times 257, "
        "which are read back as they were, so that its row could not differ."
    )


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


_FILE_ALONE = ("file's size", "aspect ratio", "width and height")
"""Words of the titles of the floors that see no pixel: shortcuts by themselves."""
_TRAINED_FILLS = ("lungs black", "lungs gray")
"""Shortcuts that look as `Augmentation.blind` makes training images; the share of the recipe says whether any were."""
_UNTRAINED_FILL = "lungs filled from around"


def shortcuts_table(
    shortcuts: dict[str, dict[str, Any]], beside: dict[str, Any], floors: Iterable[dict[str, Any]] = ()
) -> str:
    """The ROC AUC that each network keeps where only shortcuts are left; beside it, that of another recipe.

    Below, what the file alone tells without any network, from the floors.
    """
    others = beside.get("shortcuts", {})
    head = [title(name) for name in next(iter(shortcuts.values()))]
    rows = [(name, [with_interval(entry, 3) for entry in entries.values()]) for name, entries in shortcuts.items()]
    if others:
        head.append(f"{beside['recipe']} recipe: {title('together')}")
        rows = [(name, [*row, with_interval(others[name]["together"], 3)]) for name, row in rows]
    files = [floor for floor in floors if any(words in floor["title"] for words in _FILE_ALONE)]
    if files:
        rows = [(name, [*row, "-"]) for name, row in rows]
        for floor in files:
            alone = f"{floor['title'].removeprefix('floor: ')} alone"
            rows.append((alone, ["-"] * len(head) + [with_interval(floor["test"]["auc"], 3)]))
        head.append("no network")
    return markdown_table(head, rows)


def _shortcuts_words(shortcuts: dict[str, dict[str, Any]], beside: dict[str, Any], blind: float) -> str:
    """What the shortcut table shows and what it does not, in words made from its figures."""
    parts = []
    trained = [name for name in _TRAINED_FILLS if name in shortcuts]
    if blind and trained:
        parts.append(
            f"{' and '.join(trained).capitalize()} are fills that the recipe trains on: {percent(blind, 0)} of the "
            "training images had their lungs painted one gray, or noise, and were labelled one half. A low AUC there "
            "shows that this was learned; alone it is no evidence that the networks look at lungs."
        )
    if _UNTRAINED_FILL in shortcuts:
        kept = {name: entry["value"] for name, entry in shortcuts[_UNTRAINED_FILL].items()}
        words = f"{', '.join(f'{title(name)} {value:.3f}' for name, value in kept.items())}"
        parts.append(
            f"{_UNTRAINED_FILL.capitalize()} is a fill that no training image had: there the AUC is still {words}"
        )
        other = beside.get("shortcuts", {}).get(_UNTRAINED_FILL, {}).get("together")
        if other and "together" in kept:
            relation = "above" if kept["together"] > other["value"] else "not above"
            parts[-1] += f"; the last is {relation} the {beside['recipe']} recipe's {other['value']:.3f}"
        parts[-1] += ". Whatever exceeds 0.5 is read off what lies outside the masks, or off the shape of the fill."
    below = [
        f"{title(network)}, {name}: {entry['value']:.3f} tells as much as {1 - entry['value']:.3f}"
        for name, entries in shortcuts.items()
        for network, entry in entries.items()
        if entry["interval"][1] < 0.5
    ]
    if below:
        parts.append(f"An AUC below 0.5 tells the classes apart as well as its mirror image does ({'; '.join(below)}).")
    return " ".join(parts)


def _blind(manifest: dict[str, Any]) -> float:
    """The share of the training images that lost their lungs, by the recipe of the first network."""
    return next(iter(manifest["networks"].values()))["recipe"].get("augmentation", {}).get("blind", 0.0)


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


def ablation_table(results: dict[str, dict[str, Any]], training: dict[str, int]) -> str:
    """The ablation, the best score first; pairs are patients at random / the block of consecutive patients.

    Parameters
    ----------
    results : dict
        As `training.ablation.run_ablation` returns it.
    training : dict of str to int
        How many training images each class has.
    """
    columns = [
        "score ± SD of seeds",
        "steps",
        "AUC, random patients",
        "AUC, block",
        "AUC under the worst stress",
        "AUC, all but the lungs black",
        "AUC, lungs black",
        "AUC, lungs gray",
        "AUC, lungs filled",
        "ECE before calibration",
    ]
    rows = []
    for row in sorted(results.values(), key=lambda row: -row["score"]):
        first, second = row["validation"], row["block"]
        recipe = row["recipe"]
        images = epoch_images(recipe["balance"], list(training.values()))
        steps = recipe["epochs"] * -(-images // recipe["batch_size"])
        line = [f"{row['score']:.4f} ± {row['spread']:.4f}", f"{steps:,}"]
        for part in (first, second):
            low, high = part["auc"]["interval"]
            line.append(f"{part['auc']['value']:.3f} [{low:.3f}, {high:.3f}]")
        pairs = [(first["stressed"], second["stressed"])]
        for name in ("all but the lungs black", "lungs black", "lungs gray", "lungs filled from around"):
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
