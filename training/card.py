"""The model card, generated from a bundle: never typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from pneumo.bundle import FolderFiles, read_manifest
from pneumo.errors import UnknownNameError
from pneumo.examination import DISCLAIMER
from pneumo.framing import FRAMINGS, SCALINGS
from pneumo.report import CONFUSION, DETAILS, METRICS, calibration_words, confusion, percent, title
from pneumo.zoo import architecture
from training.compare import details_table, results_table, tables, uncertain_words
from training.errors import PublishError
from training.markdown import with_interval
from training.sources import HUB_DATASET

REPOSITORY = "pneumo/pneumo"
"""Where the networks are published unless another name is given."""
EVAL_RESULTS = ".eval_results/chest-xray-pneumonia.yaml"
"""Path, in the published repository, of the evaluation results in the Hub's newer form."""
_TEMPLATE = Path(__file__).with_name("card.template")
_DATASET_NAME = "Chest X-Ray Images (Pneumonia), official test split"
# By their identifiers in the Hub's metric catalogue; specificity has none there.
_HUB_METRICS = {
    "roc_auc": ("auc", "ROC AUC"),
    "accuracy": ("accuracy", "accuracy at the operating point"),
    "precision": ("precision_pneumonia", "precision of pneumonia"),
    "recall": ("recall_pneumonia", "sensitivity"),
    "specificity": ("specificity", "specificity"),
    "f1": ("f1_pneumonia", "F1 of pneumonia"),
    "brier_score": ("brier", "Brier score"),
}
_MEASURES = {
    *METRICS,
    *DETAILS,
    "auc_above_floor",
    *CONFUSION,
    *(measure for measure, _ in _HUB_METRICS.values()),
} - {"mcc", "precision_pneumonia", "auc_same_sizes"}
"""What every evaluation has: two are not defined for a network that always says the same, and one came later."""
_SEEDS = "Every training of each network, with its own calibration and operating point:"
_ORIGINALS = (
    "The published full-resolution originals of some test images against their small copies: how many decisions flip, "
    "and by how much the probability changes on average."
)
_TEACHER = (
    " Of each label {share} is what a larger network said, EfficientNet-Lite0 pretrained on ImageNet and fine-tuned on "
    "the same training images."
)
_REASONS = (
    " after those of the recipe `{after}`; in them evidence for pneumonia that lies outside the lungs adds to the loss,"
    " with the weight {weight}"
)
_FADED = (
    " {share} of the images are blurred until nothing can be read, and labelled one half: what insertion and deletion "
    "do to an image, these networks have seen in training."
)
_MATCHED = (
    " Of each class {share} is drawn so that the size of the original, which is that of the child, tells nothing of "
    "the class."
)
_SIZE = (
    "- The size of the child tells the classes of this data set apart, normal radiographs being of larger children: "
    "{floor} by itself, in ROC AUC. Among originals of the same sizes the networks reach {networks}: small normal "
    "children are called pneumonia, and large pneumonias missed, more often than others.\n"
)
_ELSEWHERE = "Measured for all networks of the bundle together: see metrics.json."
_FIGURES = {
    "roc.png": "ROC curves",
    "reliability.png": "Reliability diagrams",
    "confusion.png": "Confusion matrices",
    "curves.png": "Learning curves",
    "worst_lungs.png": "The segmenter's worst cases",
}


def evaluated_manifest(folder: Path, networks: list[str] | None = None) -> dict[str, Any]:
    """The manifest of an evaluated bundle, or as it is for some of its networks alone.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    networks : list of str, optional
        Which ones. Default: all. If some are left out, their mean is left out too.

    Raises
    ------
    BundleError
        If the folder holds no bundle.
    UnknownNameError
        If the bundle has no network of a name.
    PublishError
        If a network has not been evaluated, or by an older release that measured less.
    """
    manifest = read_manifest(FolderFiles(str(folder)))
    entries = manifest["networks"]
    for name in networks or ():
        if name not in entries:
            raise UnknownNameError(
                f"A network must be one of {', '.join(entries)}; received {name!r}. Correct the name."
            )
    chosen = {name: entry for name, entry in entries.items() if networks is None or name in networks}
    for name, entry in chosen.items():
        if missing := sorted(_MEASURES - set(entry.get("test", ()))):
            raise PublishError(
                f"A network must be evaluated before it is published; {name} of {folder} has no {missing[0]}. "
                "Run `python -m training evaluate`."
            )
    return manifest if len(chosen) == len(entries) else {**manifest, "networks": chosen, "together": None}


def card(
    folder: Path, repository: str = REPOSITORY, networks: list[str] | None = None, figures: str = "figures"
) -> str:
    """The card of a bundle, or of some of its networks, as Markdown with front matter.

    Parameters
    ----------
    folder : Path
        Of an evaluated bundle.
    repository : str
        OWNER/NAME on the Hub, for the lines that load the networks from there.
    networks : list of str, optional
        Which ones. Default: all.
    figures : str
        Where the bundle's figures lie, seen from the card.

    Raises
    ------
    BundleError, UnknownNameError, PublishError
        As `evaluated_manifest`.
    """
    manifest = evaluated_manifest(folder, networks)
    data = ModelCardData(
        model_name="pneumo",
        language="en",
        license="apache-2.0",
        library_name="keras",
        pipeline_tag="image-classification",
        datasets=[HUB_DATASET],
        metrics=list(_HUB_METRICS),
        tags=["chest-x-ray", "pneumonia", "radiology", "medical-imaging", "explainability", "grad-cam"],
        eval_results=list(_model_index(manifest)),
    )
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in _fields(manifest, folder, repository, figures).items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    # What does not fill its place leaves no gap.
    text = re.sub(r"\n{3,}", "\n\n", text)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def eval_results(folder: Path, networks: list[str] | None = None) -> str:
    """The evaluation results of a bundle, or of some of its networks, in the Hub's `.eval_results` form, as YAML.

    Raises
    ------
    BundleError, UnknownNameError, PublishError
        As `evaluated_manifest`.
    """
    manifest = evaluated_manifest(folder, networks)
    name, test = _headline(manifest)
    # A data set has one value for each of its tasks: the ROC AUC of what a user asks first.
    entry = EvalResultEntry(
        dataset_id=HUB_DATASET,
        task_id="default",
        value=round(test["auc"]["value"], 4),
        notes=f"ROC AUC on the official test split, {name}; 95 % interval {_interval(test['auc'])}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)


def _headline(manifest: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Title and measures of the mean of all networks, or of the first of a selection."""
    if manifest["together"]:
        return title("together"), manifest["together"]["test"]
    name, entry = next(iter(manifest["networks"].items()))
    return title(name), entry["test"]


def _model_index(manifest: dict[str, Any]):
    for name, entry in manifest["networks"].items():
        for metric, (measure, words) in _HUB_METRICS.items():
            if measure not in entry["test"]:
                continue
            yield EvalResult(
                task_type="image-classification",
                task_name="Pneumonia on chest radiographs",
                dataset_type=HUB_DATASET,
                dataset_name=_DATASET_NAME,
                dataset_split="test",
                metric_type=metric,
                metric_name=f"{title(name)}, {words}",
                metric_value=round(entry["test"][measure]["value"], 4),
            )


def _interval(measure: dict[str, Any]) -> str:
    low, high = measure["interval"]
    return f"[{low:.3f}, {high:.3f}]"


def _fields(manifest: dict[str, Any], folder: Path, repository: str, figures: str) -> dict[str, str]:
    """What fills the template's places."""
    first = next(iter(manifest["networks"].values()))
    recipe, counts = first["recipe"], manifest["data"]["counts"]
    faded = recipe.get("augmentation", {}).get("fade", 0.0)
    more = tables(folder)
    if not manifest["together"]:
        # A selection of the networks has no tables of its own but the first two; the lungs are found for any.
        more = {"lungs": more["lungs"]} if "lungs" in more else {}
    return {
        "disclaimer": DISCLAIMER,
        "repository": repository,
        "file": first["file"],
        "table": more.get("test") or results_table(manifest),
        "details": more.get("details") or details_table(manifest),
        "seeds": f"{_SEEDS}\n\n{more['seeds']}" if "seeds" in more else "",
        "stress": more.get("stress", _ELSEWHERE),
        "shortcuts": more.get("shortcuts", _ELSEWHERE),
        "originals": f"{_ORIGINALS}\n\n{more['originals']}" if "originals" in more else "",
        "lungs": f"### Finding the lungs\n\n{more['lungs']}" if "lungs" in more else "",
        "uncertain": uncertain_words(manifest["together"]["test"]["uncertain"]) if manifest["together"] else "",
        "figures": "\n".join(
            f"![{words}]({figures}/{name})" for name, words in _FIGURES.items() if (folder / "figures" / name).exists()
        ),
        "errors": _errors(manifest),
        "children": _children(manifest),
        "networks": "\n".join(
            f"| `{entry['file']}` | {title(name)} | {entry['parameters']:,} | {architecture(name).summary} | "
            f"{_points(entry)} | {entry['minutes']:.0f} | `{entry['sha256'][:16]}` |"
            for name, entry in manifest["networks"].items()
        ),
        "size": str(first["input_size"]),
        "channels": str(architecture(first["architecture"]).channels),
        "finds": "finds the lungs (`segmenter.keras`), frames" if "lungs" in manifest else "frames",
        "framing": FRAMINGS[first["framing"]],
        "scaling": SCALINGS[first["scaling"]],
        "recipe": recipe["name"],
        "balance": recipe["balance"],
        "matched": _MATCHED.format(share=percent(recipe["matching"], 0)) if recipe.get("matching") else "",
        "epochs": str(recipe["epochs"]),
        "optimizer": recipe["optimizer"],
        "teacher": _TEACHER.format(share=percent(recipe["distillation"], 0)) if recipe.get("distillation") else "",
        "faded": _FADED.format(share=percent(faded, 0)) if faded else "",
        "reasons": _reasons(manifest) if recipe.get("reasons") else "",
        "test_images": f"{sum(confusion(first).values()):,}",
        "train_images": f"{sum(counts['train'].values()):,}",
        "validation_images": f"{sum(counts['validation'].values()):,}",
        "block_images": f"{sum(counts['block'].values()):,}",
        "calibration": more.get("calibration") or calibration_words(manifest),
        "fingerprint": manifest["data"]["fingerprint"],
        "libraries": ", ".join(f"{name} {number}" for name, number in first["libraries"].items()),
    }


def _reasons(manifest: dict[str, Any]) -> str:
    """The price of evidence outside the lungs: the first network's, and what others pay that pay another."""
    recipes = {name: entry["recipe"] for name, entry in manifest["networks"].items()}
    first = next(iter(recipes.values()))
    prices = {name: item.get("reasons", 0.0) for name, item in recipes.items()}
    others = [f"{title(name)}: {price}" for name, price in prices.items() if price != first["reasons"]]
    words = _REASONS.format(weight=first["reasons"], after=first["after"])
    return f"{words} ({', '.join(others)})" if others else words


def _children(manifest: dict[str, Any]) -> str:
    """What the networks owe to the size of the child; "" if it was not measured."""
    floors = [floor["test"] for floor in manifest.get("floors", ()) if "width and height" in floor["title"]]
    areas = [entry["test"].get("auc_same_sizes") for entry in manifest["networks"].values()]
    if not floors or None in areas:
        return ""
    return _SIZE.format(
        floor=with_interval(floors[0]["auc"], 3), networks=" / ".join(with_interval(area, 3) for area in areas)
    )


def _points(entry: dict[str, Any]) -> str:
    return " / ".join(f"{point['threshold']:.3f}" for point in entry["operating_points"].values())


def _errors(manifest: dict[str, Any]) -> str:
    lines = []
    for name, entry in manifest["networks"].items():
        hits, misses, alarms, rejections = confusion(entry).values()
        lines.append(
            f"- {title(name)}: {misses} of {misses + hits} pneumonias missed, "
            f"{alarms} of {alarms + rejections} normal radiographs called pneumonia."
        )
    return "\n".join(lines)
