"""The case library of a bundle: what the teaching room shows, computed once."""

from __future__ import annotations

import base64
import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pneumo.bundle import OPERATING_POINTS, PREDICTIONS, Bundle, load_bundle
from pneumo.cases import (
    CASES,
    INDEX,
    TOUR,
    CaseIndex,
    CaseLungs,
    CaseNetwork,
    CaseRecord,
    CaseRow,
    MapRecord,
    TourAnswer,
    TourPanel,
    TourStop,
)
from pneumo.classifier import Classifier, decide
from pneumo.cover import fill
from pneumo.evidence import evidence_of
from pneumo.framing import RASTER, Prepared
from pneumo.lungs import Lungs, lungs_of
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.records import saliency_record
from pneumo.render import encode_jpeg, legend_rgba, outline
from pneumo.report import probability, title
from pneumo.saliency import Explainer, Heatmap, HeatStatus
from pneumo.sanity import SanityChecker
from pneumo.zoo import CLASS_NAMES
from training.batteries import STRESSES
from training.bundling import HEAT_RULE
from training.dataset import open_dataset
from training.errors import TrainingError
from training.evaluate import TOGETHER
from training.predictions import read_predictions
from training.segment import read_masks
from training.views import Views, load_views

_LARGEST_MAP = 56
"""Longest side of a stored map: what is shown is no larger than the radiograph's 224 pixels."""
_TOLERANCE = 1e-3
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member, so that the same cases give the same file."""


def make_cases(folder: Path, manifest: Path, masks: Path | None = None) -> CaseIndex:
    """Write the case library of an evaluated bundle into it.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : Path
        Data manifest that it was evaluated with.
    masks : Path, optional
        Lung masks that people drew; without one, a case has the lungs that the segmenter finds.

    Raises
    ------
    TrainingError
        If the bundle has not been evaluated on this data, or its predictions are not those of its networks.
    DataError
        If an image or a mask is not as the manifest describes it.
    """
    bundle = load_bundle(folder)
    dataset, source = open_dataset(manifest)
    views = load_views(source, dataset.split("test"), bundle.segmenter)
    rows = _rows(folder, bundle, views)
    drawn = read_masks(masks, views.images) if masks else {}
    subject = _Subject(bundle, views, rows, drawn)
    members: dict[str, bytes] = {}
    for number, (row, image) in enumerate(zip(rows, views.images, strict=True)):
        members[f"{row['id']}.json"] = _json(subject.record(number))
        small = (image.width, image.height) == (RASTER, RASTER)
        members[f"{row['id']}.jpeg"] = source.read(image.file) if small else encode_jpeg(views.rasters[number])
    tour = _Tour(subject, members)
    index: CaseIndex = {
        "networks": _networks(bundle),
        "method": DEFAULT_METHOD,
        "title": METHODS[DEFAULT_METHOD].title,
        "scale": HEAT_RULE,
        "ramp": base64.b64encode(legend_rgba().tobytes()).decode(),
        "cases": rows,
        "tour": tour.stops(),
    }
    members = {INDEX: _json(index), **members}
    with zipfile.ZipFile(folder / CASES, "w") as archive:
        for name, content in members.items():
            kind = zipfile.ZIP_STORED if name.endswith(".jpeg") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, kind)
    return index


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _rows(folder: Path, bundle: Bundle, views: Views) -> list[CaseRow]:
    """The test images with the predictions that `evaluate` wrote."""
    said = read_predictions(folder, views.images, [*bundle.networks, TOGETHER])
    return [
        {
            "id": Path(image.file).stem,
            "label": image.label,
            "subtype": image.subtype,
            "aspect": round(image.aspect, 4),
            "probabilities": {name: float(values[number]) for name, values in said.items()},
        }
        for number, image in enumerate(views.images)
    ]


def _networks(bundle: Bundle) -> dict[str, CaseNetwork]:
    entries = bundle.manifest["networks"] | {TOGETHER: bundle.manifest["together"]}
    return {
        name: {
            "title": title(name),
            "sha256": entry.get("sha256"),
            "thresholds": {point: entry["operating_points"][point]["threshold"] for point in OPERATING_POINTS},
        }
        for name, entry in entries.items()
    }


class _Subject:
    """The networks, and the cases that they are asked about."""

    def __init__(self, bundle: Bundle, views: Views, rows: list[CaseRow], drawn: dict[str, np.ndarray]) -> None:
        self.bundle, self.rows = bundle, rows
        self.prepared = views.prepared()
        self.explainer = Explainer(bundle)
        self.classifier = Classifier(bundle)
        masks = [drawn.get(image.file) for image in views.images]
        people = [lungs_of(mask) if mask is not None else None for mask in masks]
        self.drawn = [lungs is not None and lungs.found for lungs in people]
        self.lungs: list[Lungs | None] = [
            theirs if theirs is not None and theirs.found else item.lungs
            for theirs, item in zip(people, self.prepared, strict=True)
        ]

    def record(self, number: int) -> CaseRecord:
        """All that is shown of a case beside its row."""
        row, prepared = self.rows[number], self.prepared[number]
        maps: dict[str, dict[str, MapRecord]] = {}
        for name, prediction in self.classifier.predict(prepared).items():
            stored = row["probabilities"][name]
            if abs(prediction.probability - stored) > _TOLERANCE:
                raise TrainingError(
                    f"The predictions must be those of the bundle's networks; {name} says {prediction.probability:.4f} "
                    f"of {row['id']}, {PREDICTIONS} {stored:.4f}. Run `python -m training evaluate` again."
                )
            maps[name] = {
                target: map_record(self.explainer.explain(name, prepared, target), self.lungs[number])
                for target in CLASS_NAMES
            }
        return {"id": row["id"], "lungs": self._lungs_record(number), "maps": maps}

    def answers(self, prepared: Prepared, number: int, maps: bool) -> dict[str, TourAnswer]:
        """What each network, and their mean, says of a radiograph that may have been altered."""
        predictions = self.classifier.predict(prepared)
        found: dict[str, TourAnswer] = {}
        for name, prediction in predictions.items():
            record = None
            if maps:
                record = map_record(self.explainer.explain(name, prepared, prediction.decision), self.lungs[number])
            found[name] = {
                "probability": round(prediction.probability, 6),
                "decision": prediction.decision,
                "map": record,
                "words": record["evidence"]["words"] if record else "",
            }
        mean = self.classifier.together(predictions)
        assert mean is not None
        found[TOGETHER] = {
            "probability": round(mean.probability, 6),
            "decision": mean.decision,
            "map": None,
            "words": "",
        }
        return found

    def _lungs_record(self, number: int) -> CaseLungs | None:
        lungs = self.lungs[number]
        if lungs is None or not lungs.found:
            return None
        rows = {}
        for side in ("right", "left"):
            bands = [np.flatnonzero(zone.any(axis=1)) for name, zone in lungs.zones().items() if name.startswith(side)]
            rows[side] = [int(bands[0][0]), *(int(band[-1]) + 1 for band in bands)]
        return {
            "right": outline(lungs.right),
            "left": outline(lungs.left),
            "rows": rows,
            "drawn": self.drawn[number],
        }


def map_record(heatmap: Heatmap, lungs: Lungs | None) -> MapRecord:
    """A heatmap as the teaching room draws it, and where its heat lies."""
    values = heatmap.values
    longest = max(values.shape)
    if longest > _LARGEST_MAP:
        size = tuple(max(1, round(side * _LARGEST_MAP / longest)) for side in values.shape[::-1])
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    drawn = heatmap.status is HeatStatus.DRAWN
    levels = np.rint(np.clip(np.nan_to_num(values) / heatmap.scale, 0, 1) * 255).astype(np.uint8)
    evidence = saliency_record(heatmap, evidence_of(heatmap, lungs))
    assert evidence is not None
    return {
        "box": [round(edge, 5) for edge in dataclasses.astuple(heatmap.box)],
        "shape": [*values.shape],
        "values": base64.b64encode(levels.tobytes()).decode() if drawn else None,
        "evidence": evidence,
    }


class _Tour:
    """How it can fool you: real cases, each chosen by a rule that is shown with it."""

    def __init__(self, subject: _Subject, members: dict[str, bytes]) -> None:
        self._subject, self._members = subject, members
        self._rows = subject.rows
        self._mean = np.array([row["probabilities"][TOGETHER] for row in self._rows])
        self._threshold = subject.bundle.manifest["together"]["operating_points"][OPERATING_POINTS[0]]["threshold"]
        self._pneumonia = np.array([row["label"] == CLASS_NAMES[1] for row in self._rows])

    def stops(self) -> list[TourStop]:
        """All stops for which there is a case."""
        found = [self._shortcut(), self._exposure(), self._random(), self._miss(), self._disagreement()]
        return [stop for stop in found if stop]

    def _shortcut(self) -> TourStop | None:
        right = self._pneumonia == (self._mean >= self._threshold)
        hidden = {int(number): self._altered(int(number), fill) for number in np.flatnonzero(right)}
        scores = {number: self._ask(prepared) for number, prepared in hidden.items() if prepared}
        ill, well = ({n: score for n, score in scores.items() if self._pneumonia[n] == kind} for kind in (True, False))
        if not ill or not well:
            return None
        chosen = max(ill, key=lambda number: ill[number])
        called = [sum(score >= self._threshold for score in kind.values()) for kind in (ill, well)]
        medians = [float(np.median([*kind.values()])) for kind in (ill, well)]
        words = (
            f"All that lies inside the lung outlines was replaced, and the mean is still {probability(ill[chosen])}. "
            f"So altered, {called[0]} of the {len(ill)} pneumonias that are found are still called pneumonia; but so "
            f"are {called[1]} of the {len(well)} normal radiographs that were rightly called normal. "
        )
        if medians[0] > medians[1]:
            words += (
                f"Yet the two kinds still differ, with medians of {probability(medians[0])} and "
                f"{probability(medians[1])}: part of the answer comes from elsewhere than the lungs' inside, perhaps "
                "their outline, the shape of the chest, or how a sick child is held. "
            )
        return {
            "kind": "shortcut",
            "title": "A pneumonia without lungs",
            "rule": "Of the pneumonias that the networks together find, the one whose mean stays highest when both "
            "lungs are filled from their surroundings.",
            "words": words + "A right answer is no proof that a network saw the disease.",
            "case": self._rows[chosen]["id"],
            "panels": [
                self._panel("The radiograph", chosen),
                self._panel("Lungs filled from their surroundings", chosen, hidden[chosen], f"{TOUR}shortcut.jpeg"),
            ],
        }

    def _exposure(self) -> TourStop | None:
        names = ("gamma 0.6", "gamma 1.6")
        best: tuple[float, int, dict[str, Prepared]] | None = None
        flips = 0
        for number in range(len(self._rows)):
            made = {name: self._exposed(number, name) for name in names}
            answers = {name: self._ask(prepared) for name, prepared in made.items()}
            before = self._mean[number] >= self._threshold
            if not any((answer >= self._threshold) != before for answer in answers.values()):
                continue
            flips += 1
            moved = max(abs(answer - self._mean[number]) for answer in answers.values())
            if best is None or moved > best[0]:
                best = moved, number, made
        if best is None:
            return None
        moved, chosen, shown = best
        panels = [
            self._panel(f"Its exposure changed ({name})", chosen, prepared, f"{TOUR}{name.replace(' ', '-')}.jpeg")
            for name, prepared in shown.items()
        ]
        return {
            "kind": "exposure",
            "title": "The same child, another exposure",
            "rule": "Of the radiographs whose answer flips when only the curve of the gray values changes, the one "
            "whose mean moves farthest.",
            "words": f"The anatomy is the same; the mean moves by up to {100 * moved:.0f} percentage points. {flips} "
            f"of the {len(self._rows)} test radiographs change their answer under one of these two curves. Near the "
            "operating point neither the word nor the number is sure.",
            "case": self._rows[chosen]["id"],
            "panels": [panels[0], self._panel("The radiograph", chosen), *panels[1:]],
        }

    def _random(self) -> TourStop | None:
        sure = np.flatnonzero(self._pneumonia & (self._mean >= self._threshold))
        if not len(sure):
            return None
        chosen = max(map(int, sure), key=self._faintest)
        prepared, lungs = self._subject.prepared[chosen], self._subject.lungs[chosen]
        panel = self._panel("Trained networks", chosen, maps=True)
        maps = {
            name: self._subject.explainer.explain(name, prepared, answer["decision"] or "")
            for name, answer in panel["answers"].items()
            if name != TOGETHER
        }
        untrained: dict[str, TourAnswer] = {
            check.network: {
                "probability": None,
                "decision": None,
                "map": map_record(check.heatmap, lungs),
                "words": check.words,
            }
            for check in SanityChecker(self._subject.bundle).check(prepared, maps)
        }
        return {
            "kind": "random",
            "title": "A heatmap of networks that know nothing",
            "rule": "Of the pneumonias that the networks together find, the one whose faintest map is the strongest.",
            "words": "Below it, the same networks with random weights: they have never seen a radiograph, and draw "
            "a heatmap all the same. A map that looks plausible proves nothing. A rank correlation near 0 says that "
            "the two maps have nothing in common, so that what the trained map shows was learnt.",
            "case": self._rows[chosen]["id"],
            "panels": [panel, {"title": "Random weights", "image": panel["image"], "answers": untrained}],
        }

    def _faintest(self, number: int) -> float:
        """The peak of the weakest of the networks' maps for pneumonia, as a share of its scale."""
        prepared, explain = self._subject.prepared[number], self._subject.explainer.explain
        maps = [explain(name, prepared, CLASS_NAMES[1]) for name in self._subject.bundle.networks]
        return min(float(np.nan_to_num(found.values).max()) / found.scale for found in maps)

    def _miss(self) -> TourStop | None:
        missed = np.flatnonzero(self._pneumonia & (self._mean < self._threshold))
        if not len(missed):
            return None
        chosen = int(missed[np.argmin(self._mean[missed])])
        low = self._subject.bundle.manifest["together"]["uncertain"]["low"]
        doubt = "" if self._mean[chosen] < low else "The program calls such an answer uncertain, and it was. "
        return {
            "kind": "miss",
            "title": "The surest miss" if doubt else "A confident miss",
            "rule": "Of the pneumonias that the networks together miss, the one with the lowest mean.",
            "words": f"The label says pneumonia; the mean of the networks is {probability(float(self._mean[chosen]))}. "
            f"{doubt}Together they miss {len(missed)} of the {int(self._pneumonia.sum())} test pneumonias. A low "
            "number is no all-clear, and a calm heatmap is none either.",
            "case": self._rows[chosen]["id"],
            "panels": [self._panel("The radiograph", chosen, maps=True)],
        }

    def _disagreement(self) -> TourStop | None:
        names = list(self._subject.bundle.networks)
        answers = np.array([[row["probabilities"][name] for name in names] for row in self._rows])
        thresholds = [self._subject.bundle.networks[name].thresholds[OPERATING_POINTS[0]] for name in names]
        calls = (answers >= thresholds).sum(axis=1)
        split = np.flatnonzero((calls > 0) & (calls < len(names)))
        if not len(split):
            return None
        chosen = int(split[np.argmax(np.ptp(answers[split], axis=1))])
        row = self._rows[chosen]
        said = ", ".join(
            f"{title(name)} {probability(row['probabilities'][name])} ({decide(row['probabilities'][name], threshold)})"
            for name, threshold in zip(names, thresholds, strict=True)
        )
        return {
            "kind": "disagreement",
            "title": "One radiograph, two answers",
            "rule": "Of the radiographs on which the networks decide differently, the one with the widest spread of "
            "probabilities.",
            "words": f"{said}; the label is {row['label']}. The networks disagree on {len(split)} of the "
            f"{len(self._rows)} test radiographs. They were trained on the same images by the same recipe: one network "
            "alone would not have told that another answers differently.",
            "case": row["id"],
            "panels": [self._panel("The radiograph", chosen, maps=True)],
        }

    def _altered(self, number: int, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Prepared | None:
        """A case with other pixels, in the frame of the unaltered one; None without lungs."""
        lungs = self._subject.lungs[number]
        if lungs is None or not lungs.found:
            return None
        prepared = self._subject.prepared[number]
        return dataclasses.replace(prepared, raster=change(prepared.raster, lungs.mask))

    def _exposed(self, number: int, name: str) -> Prepared:
        """A case under one of the stresses; its lungs are found anew, as those of an upload are."""
        prepared, segmenter = self._subject.prepared[number], self._subject.bundle.segmenter
        raster = STRESSES[name](prepared.raster)
        return dataclasses.replace(prepared, raster=raster, lungs=segmenter.find(raster) if segmenter else None)

    def _ask(self, prepared: Prepared) -> float:
        answers = self._subject.classifier.predict(prepared)
        return float(np.mean([answer.probability for answer in answers.values()]))

    def _panel(
        self, heading: str, number: int, prepared: Prepared | None = None, image: str = "", maps: bool = False
    ) -> TourPanel:
        if prepared is not None:
            self._members[image] = encode_jpeg(prepared.raster)
        answers = self._subject.answers(prepared or self._subject.prepared[number], number, maps)
        return {"title": heading, "image": image or f"{self._rows[number]['id']}.jpeg", "answers": answers}
