"""The model card, generated from a bundle: never typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from pneumo.bundle import FolderFiles, read_manifest
from pneumo.errors import UnknownNameError
from pneumo.examination import DISCLAIMER
from pneumo.report import CONFUSION, METRICS, confusion
from pneumo.zoo import architecture
from training.compare import markdown_table, results_table
from training.errors import PublishError
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
_SUBGROUPS = {
    "sensitivity_bacterial": "sensitivity, bacterial",
    "sensitivity_viral": "sensitivity, viral",
    "specificity": "specificity",
}
_CALIBRATION = {"ece": "expected calibration error", "brier": "Brier score"}
_MEASURES = {
    *METRICS,
    "auc_above_floor",
    *CONFUSION,
    *_SUBGROUPS,
    *_CALIBRATION,
    *(measure for measure, _ in _HUB_METRICS.values()),
}
_FIGURES = {
    "roc.png": "ROC curves",
    "confusion.png": "Confusion matrices",
    "curves.png": "Learning curves",
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
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def eval_results(folder: Path, networks: list[str] | None = None) -> str:
    """The evaluation results of a bundle, or of some of its networks, in the Hub's `.eval_results` form, as YAML.

    Raises
    ------
    BundleError, UnknownNameError, PublishError
        As `evaluated_manifest`.
    """
    manifest = evaluated_manifest(folder, networks)
    title, test = _headline(manifest)
    # A data set has one value for each of its tasks: the ROC AUC of what a user asks first.
    entry = EvalResultEntry(
        dataset_id=HUB_DATASET,
        task_id="default",
        value=round(test["auc"]["value"], 4),
        notes=f"ROC AUC on the official test split, {title}; 95 % interval {_interval(test['auc'])}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)


def _headline(manifest: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Title and measures of the mean of all networks, or of the first of a selection."""
    if manifest["together"]:
        return "mean of the three", manifest["together"]["test"]
    name, entry = next(iter(manifest["networks"].items()))
    return architecture(name).title, entry["test"]


def _model_index(manifest: dict[str, Any]):
    for name, entry in manifest["networks"].items():
        for metric, (measure, title) in _HUB_METRICS.items():
            yield EvalResult(
                task_type="image-classification",
                task_name="Pneumonia on chest radiographs",
                dataset_type=HUB_DATASET,
                dataset_name=_DATASET_NAME,
                dataset_split="test",
                metric_type=metric,
                metric_name=f"{architecture(name).title}, {title}",
                metric_value=round(entry["test"][measure]["value"], 4),
            )


def _interval(measure: dict[str, Any]) -> str:
    low, high = measure["interval"]
    return f"[{low:.3f}, {high:.3f}]"


def _fields(manifest: dict[str, Any], folder: Path, repository: str, figures: str) -> dict[str, str]:
    """What fills the template's places."""
    first = next(iter(manifest["networks"].values()))
    recipe, counts = first["recipe"], manifest["data"]["counts"]
    return {
        "disclaimer": DISCLAIMER,
        "repository": repository,
        "file": first["file"],
        "table": results_table(manifest),
        "subgroups": _rows(manifest, _SUBGROUPS),
        "calibration": _rows(manifest, _CALIBRATION),
        "figures": "\n".join(
            f"![{title}]({figures}/{name})" for name, title in _FIGURES.items() if (folder / "figures" / name).exists()
        ),
        "errors": _errors(manifest),
        "networks": "\n".join(
            f"| `{entry['file']}` | {architecture(name).title} | {architecture(name).parameters:,} | "
            f"{architecture(name).summary} | {entry['operating_point']['threshold']:.3f} | {entry['minutes']:.0f} | "
            f"`{entry['sha256'][:16]}` |"
            for name, entry in manifest["networks"].items()
        ),
        "size": str(first["input_size"]),
        "recipe": recipe["name"],
        "balance": recipe["balance"],
        "epochs": str(recipe["epochs"]),
        "optimizer": recipe["optimizer"],
        "test_images": f"{sum(confusion(first).values()):,}",
        "train_images": f"{sum(counts['train'].values()):,}",
        "validation_images": f"{sum(counts['validation'].values()):,}",
        "fingerprint": manifest["data"]["fingerprint"],
        "libraries": ", ".join(f"{name} {number}" for name, number in first["libraries"].items()),
    }


def _errors(manifest: dict[str, Any]) -> str:
    lines = []
    for name, entry in manifest["networks"].items():
        hits, misses, alarms, rejections = confusion(entry).values()
        lines.append(
            f"- {architecture(name).title}: {misses} of {misses + hits} pneumonias missed, "
            f"{alarms} of {alarms + rejections} normal radiographs called pneumonia."
        )
    return "\n".join(lines)


def _rows(manifest: dict[str, Any], measures: dict[str, str]) -> str:
    """A table of some measures, a row a network and their mean."""
    rows = [(architecture(name).title, entry["test"]) for name, entry in manifest["networks"].items()]
    if manifest["together"]:
        rows.append(("mean of the three", manifest["together"]["test"]))
    cells = (
        (title, [f"{test[name]['value']:.3f} {_interval(test[name])}" for name in measures]) for title, test in rows
    )
    return markdown_table(measures.values(), cells)
