"""Every trained system on the test split, beside the networks that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from pneumo.bundle import SEGMENTER, SYSTEMS, FolderFiles, read_manifest
from pneumo.framing import needs_lungs
from pneumo.lungs import Segmenter
from pneumo.zoo import SYSTEMS as KNOWN
from training.bundling import read_runs, run_folders, write_json
from training.dataset import open_dataset
from training.decisions import operating_point
from training.errors import TrainingError
from training.evaluate import ask_run
from training.fit import HELD_OUT
from training.metrics import RESAMPLES, auc_differences, measure
from training.predictions import read_predictions
from training.segment import load_segmenter
from training.views import load_views

_HALF = 0.5
_MEASURES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier", "ece")
_AT_POINT = ("accuracy", "sensitivity", "specificity")


def compare_systems(models: Path, manifest: Path, runs: Path) -> dict[str, Any]:
    """Measure the trained systems on the test split, and write `pneumo.bundle.SYSTEMS` into an evaluated bundle.

    Each is asked at one half, as the reports do, and at an operating point chosen on held-out images: the trained
    systems as they are, without calibration; the bundle's own networks calibrated, as they ship. Of several seeds the
    one with the highest score on held-out images is taken. Where no run is at hand, what was measured before of the
    trained systems stays, but for their differences from networks that the bundle did not hold then.

    Parameters
    ----------
    models : Path
        Folder of an evaluated bundle, whose own networks are in the comparison.
    manifest : Path
        Data manifest that all were trained with.
    runs : Path
        Holds SYSTEM/seed-N.

    Raises
    ------
    TrainingError
        If the bundle has not been evaluated, a run is damaged, or anything was made with other data.
    """
    dataset, source = open_dataset(manifest)
    content = read_manifest(FolderFiles(str(models)))
    if content["data"]["fingerprint"] != dataset.fingerprint:
        raise TrainingError(f"Systems must be compared on the data of the bundle; {models} was made with other.")
    found = [name for name in KNOWN if run_folders(runs, name)]
    # Where they describe other networks than the bundle's, `make_bundle` has removed them.
    before = json.loads((models / SYSTEMS).read_text(encoding="utf-8")) if (models / SYSTEMS).exists() else {}
    if not (found or before):
        raise TrainingError(f"A comparison needs trained systems; {runs} has none. Run `python -m training train`.")
    best = {}
    for name in found:
        records = read_runs(runs, name, dataset)
        run = max(records, key=lambda path: records[path]["held_out"]["score"])
        best[name] = run, records[run]
    lungs = any(needs_lungs(record["recipe"]["framing"]) for _, record in best.values())
    finder = Segmenter(load_segmenter(models)) if lungs and (models / SEGMENTER).exists() else None
    test = load_views(source, dataset.split("test"), finder)
    patients = np.array([image.patient for image in test.images])
    subtypes = np.array([image.subtype for image in test.images])
    held_labels = np.array([image.label == "PNEUMONIA" for image in dataset.held_out()], np.uint8)

    answers = read_predictions(models, test.images, content["networks"])
    entries: dict[str, dict[str, Any]] = {}
    for name in answers:
        entry = content["networks"][name]
        entries[name] = {
            "threshold": entry["operating_points"]["balanced"]["threshold"],
            "cross_validation": None,
            **{key: entry[key] for key in ("recipe", "minutes", "kept", "libraries", "commit")},
        }
    for name, (run, record) in best.items():
        with np.load(run / HELD_OUT) as saved:
            threshold = operating_point(held_labels, saved["clean"])
        answers[name] = ask_run(run, record["recipe"], test).astype(np.float64)
        history = json.loads((run / "history.json").read_text(encoding="utf-8"))
        entries[name] = {
            "threshold": threshold,
            "cross_validation": record.get("cross_validation"),
            **{key: record[key] for key in ("recipe", "minutes", "kept", "libraries", "commit")},
            "history": [{key: row[key] for key in ("loss", "val_loss", "accuracy", "val_accuracy")} for row in history],
        }
    for name, entry in entries.items():
        measured = measure(test.labels, answers[name], _HALF, patients, subtypes)
        chosen = measure(test.labels, answers[name], entry["threshold"], patients)
        entry["test"] = {key: measured[key] for key in _MEASURES}
        entry["at_operating_point"] = {key: chosen[key] for key in _AT_POINT}
        alarms, hits, _ = roc_curve(test.labels, answers[name])
        entry["roc"] = [np.round(alarms, 4).tolist(), np.round(hits, 4).tolist()]
    differences = auc_differences(test.labels, answers, patients)
    if not found:
        entries |= {name: entry for name, entry in before["systems"].items() if name not in entries}
        known = before["auc_differences"]
        # Calibration changes no order of answers, and so no area.
        differences = known | {name: known.get(name, {}) | pairs for name, pairs in differences.items()}
    result = {
        "data": dataset.fingerprint,
        "images": len(test),
        "interval": f"95 %, {RESAMPLES} bootstrap resamples of patients",
        "systems": entries,
        "auc_differences": differences,
    }
    write_json(models / SYSTEMS, result)
    return result
