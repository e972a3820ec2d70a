"""All that the program says of one radiograph: the same for the page, the command line, the API and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from typing_extensions import TypedDict

from pneumo.bundle import Bundle
from pneumo.classifier import Classifier, Prediction
from pneumo.radiograph import Radiograph
from pneumo.report import percent
from pneumo.saliency import Explainer, Heatmap, HeatStatus
from pneumo.zoo import CLASS_NAMES, architecture

DISCLAIMER = "For research and teaching, not for diagnosis."
"""What every output says."""
_ALL_WORDS = {2: "Both", 3: "All three"}


class PredictionRecord(TypedDict):
    """A `Prediction` as JSON: probability and threshold 0 to 1, decision a class name."""

    probability: float
    threshold: float
    decision: str


class SaliencyRecord(TypedDict):
    """A `Heatmap` as JSON; `peak` is a share of the network's fixed scale, null if the map is not finite."""

    method: str
    target: str
    status: str
    peak: float | None


class NetworkRecord(PredictionRecord):
    """What one network says, as JSON; `saliency` is null where no heatmap was asked for."""

    saliency: SaliencyRecord | None


class AgreementRecord(TypedDict):
    """How many of the networks call pneumonia, as JSON."""

    calling_pneumonia: int
    networks: int
    unanimous: bool


class ExaminationRecord(TypedDict):
    """An `Examination` as JSON; `together` is null unless all networks of the bundle were asked."""

    file: str
    networks: dict[str, NetworkRecord]
    together: PredictionRecord | None
    agreement: AgreementRecord
    summary: str
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Examination:
    """All of it for one radiograph.

    Attributes
    ----------
    radiograph : Radiograph
    predictions : dict of str to Prediction
        By network.
    heatmaps : dict of str to Heatmap
        By network, for the class that it decided; empty if none were asked for.
    together : Prediction or None
        The mean of all networks of the bundle; None if some were left out.
    notices : tuple of str
        What is to be known of how the networks were loaded.
    evidence : dict or None
        How test images with the same number of networks calling pneumonia turned out: `images`, `pneumonia`,
        `share` and `interval`, from the bundle's manifest.
    """

    radiograph: Radiograph
    predictions: dict[str, Prediction]
    heatmaps: dict[str, Heatmap]
    together: Prediction | None
    notices: tuple[str, ...] = ()
    evidence: dict | None = None

    @property
    def calling_pneumonia(self) -> tuple[str, ...]:
        """Names of the networks whose decision is pneumonia."""
        return tuple(name for name, item in self.predictions.items() if item.decision == CLASS_NAMES[1])

    @property
    def unanimous(self) -> bool:
        """Whether all networks decide alike."""
        return len(self.calling_pneumonia) in (0, len(self.predictions))

    @property
    def headline(self) -> str:
        """The decisions in one sentence."""
        total, positive = len(self.predictions), len(self.calling_pneumonia)
        if total == 1:
            return f"{_titles(self.predictions)} calls {'pneumonia' if positive else 'normal'}."
        if self.unanimous:
            return f"{_ALL_WORDS.get(total, 'All')} networks call {'pneumonia' if positive else 'normal'}."
        others = [name for name in self.predictions if name not in self.calling_pneumonia]
        verb = "calls" if positive == 1 else "call"
        other_verb = "calls" if len(others) == 1 else "call"
        return (
            f"The networks disagree: {_titles(self.calling_pneumonia)} {verb} pneumonia, "
            f"{_titles(others)} {other_verb} normal."
        )

    @property
    def meaning(self) -> str:
        """What that answer was worth on the official test images, in one sentence; "" if it is not known."""
        if self.evidence is None or not self.evidence["images"]:
            return ""
        low, high = self.evidence["interval"]
        return (
            f"{self.evidence['images']} of the {self.evidence['of']} official test images had "
            f"{len(self.calling_pneumonia)} of the {len(self.predictions)} networks calling pneumonia; "
            f"{percent(self.evidence['share'], 0)} of those are labelled pneumonia (95 % interval {percent(low, 0)} to "
            f"{percent(high, 0)}); of all test images {percent(self.evidence['prevalence'], 0)} are. "
            "Where pneumonia is rarer, fewer would be."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before believing the rest."""
        found = [*self.notices, *self.radiograph.notes]
        for name, heatmap in self.heatmaps.items():
            if text := heat_words(heatmap):
                found.append(f"{architecture(name).title}: {text}")
        return tuple(found)

    def record(self) -> ExaminationRecord:
        """The examination as JSON-ready values."""
        networks: dict[str, NetworkRecord] = {
            name: {**_prediction_record(prediction), "saliency": _saliency_record(self.heatmaps.get(name))}
            for name, prediction in self.predictions.items()
        }
        return {
            "file": self.radiograph.name,
            "networks": networks,
            "together": _prediction_record(self.together) if self.together else None,
            "agreement": {
                "calling_pneumonia": len(self.calling_pneumonia),
                "networks": len(self.predictions),
                "unanimous": self.unanimous,
            },
            "summary": " ".join(filter(None, (self.headline, self.meaning))),
            "warnings": list(self.warnings),
        }


class Examiner:
    """Examines radiographs with the networks of a bundle.

    Parameters
    ----------
    bundle : Bundle
    saliency : str or None
        Method of the heatmaps, one of `pneumo.saliency.METHODS`; None for none.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    """

    def __init__(self, bundle: Bundle, saliency: str | None = "gradcam") -> None:
        self.bundle = bundle
        self._classifier = Classifier(bundle)
        self._explainer = Explainer(bundle, saliency) if saliency else None

    def examine(self, radiograph: Radiograph) -> Examination:
        """Predict, explain each decision, and compare the networks."""
        predictions = self._classifier.predict(radiograph)
        heatmaps = {}
        if self._explainer:
            heatmaps = {
                name: self._explainer.explain(name, radiograph, prediction.decision)
                for name, prediction in predictions.items()
            }
        together = self._classifier.together(predictions)
        examination = Examination(radiograph, predictions, heatmaps, together, self.bundle.notices)
        test = self.bundle.manifest["together"].get("test") if together else None
        if test is None:
            return examination
        evidence = {
            **test["agreement"][str(len(examination.calling_pneumonia))],
            "of": test["images"],
            "prevalence": test["prevalence"],
        }
        return replace(examination, evidence=evidence)


def heat_words(heatmap: Heatmap) -> str:
    """Why a heatmap is not drawn, in one sentence; "" if it is."""
    if heatmap.status is HeatStatus.EMPTY:
        return f"no positive evidence for {heatmap.target} was found, so no heatmap is drawn."
    if heatmap.status is HeatStatus.NOT_FINITE:
        return "the heatmap has values that are not finite, so none is drawn."
    return ""


def _titles(names: Iterable[str]) -> str:
    titles = [architecture(name).title for name in names]
    return " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))


def _prediction_record(prediction: Prediction) -> PredictionRecord:
    return {
        "probability": round(prediction.probability, 6),
        "threshold": round(prediction.threshold, 6),
        "decision": prediction.decision,
    }


def _saliency_record(heatmap: Heatmap | None) -> SaliencyRecord | None:
    if heatmap is None:
        return None
    peak = heatmap.peak
    return {
        "method": heatmap.method,
        "target": heatmap.target,
        "status": str(heatmap.status),
        "peak": None if peak is None else round(peak, 6),
    }
