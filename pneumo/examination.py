"""All that the program says of one radiograph: the same for the page, the command line, the API and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace

from typing_extensions import TypedDict

from pneumo.bundle import OPERATING_POINTS, Bundle
from pneumo.classifier import Classifier, JointPrediction, Prediction, parse_operating_point
from pneumo.evidence import Evidence, disagreement, evidence_of
from pneumo.lungs import Lungs
from pneumo.radiograph import Radiograph
from pneumo.report import percent, probability
from pneumo.saliency import DEFAULT_METHOD, Explainer, Heatmap, HeatStatus
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
    """A `Heatmap` as JSON.

    `peak` is a share of the network's fixed scale, null if the map is not finite; what follows is its `Evidence`, null
    where there is none.
    """

    method: str
    target: str
    status: str
    peak: float | None
    share_in_lungs: float | None
    chance: float | None
    zones: dict[str, float] | None
    peak_at: list[float] | None
    peak_zone: str | None
    words: str


class NetworkRecord(PredictionRecord):
    """What one network says, as JSON; `saliency` is null where no heatmap was asked for."""

    saliency: SaliencyRecord | None


class JointRecord(PredictionRecord):
    """A `JointPrediction` as JSON."""

    uncertain: bool


class LungsRecord(TypedDict):
    """Where the lungs are, as JSON: `box` is left, top, right, bottom as shares of width and height, or null."""

    found: bool
    reason: str
    share: float
    box: list[float] | None


class AgreementRecord(TypedDict):
    """How many of the networks call pneumonia, as JSON."""

    calling_pneumonia: int
    networks: int
    unanimous: bool


class ExaminationRecord(TypedDict):
    """An `Examination` as JSON.

    `operating_point` is the name of one, or "custom"; `together` is null unless all networks of the bundle were
    asked; `lungs` is null if no network asks for them.
    """

    file: str
    operating_point: str
    networks: dict[str, NetworkRecord]
    together: JointRecord | None
    lungs: LungsRecord | None
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
    together : JointPrediction or None
        The mean of all networks of the bundle; None if some were left out.
    operating_point : str or float
        Name of the operating point at which they decide, or a threshold.
    lungs : Lungs or None
        Where the lungs are; None if no network asks for them.
    notices : tuple of str
        What is to be known of how the networks were loaded.
    precedents : dict or None
        How test images with the same number of networks calling pneumonia turned out: `images`, `pneumonia`,
        `share` and `interval`, from the bundle's manifest.
    """

    radiograph: Radiograph
    predictions: dict[str, Prediction]
    heatmaps: dict[str, Heatmap]
    together: JointPrediction | None
    operating_point: str | float = OPERATING_POINTS[0]
    lungs: Lungs | None = None
    notices: tuple[str, ...] = ()
    precedents: dict | None = None

    @property
    def heat_evidence(self) -> dict[str, Evidence | None]:
        """Where the heat of each map lies, by network."""
        return {name: evidence_of(heatmap, self.lungs) for name, heatmap in self.heatmaps.items()}

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
        if self.precedents is None or not self.precedents["images"]:
            return ""
        low, high = self.precedents["interval"]
        return (
            f"{self.precedents['images']} of the {self.precedents['of']} official test images had "
            f"{len(self.calling_pneumonia)} of the {len(self.predictions)} networks calling pneumonia; "
            f"{percent(self.precedents['share'], 0)} of those are labelled pneumonia (95 % interval {percent(low, 0)} "
            f"to {percent(high, 0)}); of all test images {percent(self.precedents['prevalence'], 0)} are. "
            "Where pneumonia is rarer, fewer would be."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before believing the rest."""
        found = [*self.notices, *self.radiograph.notes]
        if self.lungs is not None and not self.lungs.found:
            found.append(
                f"{self.lungs.reason} The networks were shown the whole image instead of the lungs, which they were "
                "not trained for: do not rely on this answer."
            )
        if self.together is not None and self.together.uncertain:
            found.append(uncertain_words(self.together))
        for name, heatmap in self.heatmaps.items():
            if text := heat_words(heatmap):
                found.append(f"{architecture(name).title}: {text}")
        return (*found, *self.heat_warnings)

    @property
    def heat_warnings(self) -> tuple[str, ...]:
        """Why the maps that are drawn should not be believed: heat no better placed than chance, or in no agreement."""
        found = {name: evidence for name, evidence in self.heat_evidence.items() if evidence}
        blind = [name for name, evidence in found.items() if not evidence.above_chance]
        warnings = [
            f"{architecture(name).title}: its heat lies no better in the lungs than chance; do not believe its map."
            for name in blind
        ]
        for decision in CLASS_NAMES:
            alike = {
                architecture(name).title: evidence
                for name, evidence in found.items()
                if self.predictions[name].decision == decision and name not in blind
            }
            warnings.append(disagreement(alike))
        return tuple(filter(None, warnings))

    def record(self) -> ExaminationRecord:
        """The examination as JSON-ready values."""
        found = self.heat_evidence
        networks: dict[str, NetworkRecord] = {
            name: {
                **_prediction_record(prediction),
                "saliency": _saliency_record(self.heatmaps.get(name), found.get(name)),
            }
            for name, prediction in self.predictions.items()
        }
        return {
            "file": self.radiograph.name,
            "operating_point": self.operating_point if isinstance(self.operating_point, str) else "custom",
            "networks": networks,
            "together": _joint_record(self.together),
            "lungs": _lungs_record(self.lungs),
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

    def __init__(self, bundle: Bundle, saliency: str | None = DEFAULT_METHOD) -> None:
        self.bundle = bundle
        self._classifier = Classifier(bundle)
        self._explainer = Explainer(bundle, saliency) if saliency else None

    def examine(self, radiograph: Radiograph, operating_point: str | float = OPERATING_POINTS[0]) -> Examination:
        """Predict, explain each decision, and compare the networks.

        Parameters
        ----------
        radiograph : Radiograph
        operating_point : str or float
            One of `pneumo.bundle.OPERATING_POINTS`, or a threshold between 0 and 1 for all networks and their mean.

        Raises
        ------
        UnknownNameError
            If there is no such operating point.
        """
        operating_point = parse_operating_point(operating_point)
        prepared = self.bundle.prepare(radiograph)
        predictions = self._classifier.predict(prepared, operating_point)
        heatmaps = {}
        if self._explainer:
            heatmaps = {
                name: self._explainer.explain(name, prepared, prediction.decision)
                for name, prediction in predictions.items()
            }
        together = self._classifier.together(predictions, operating_point)
        examination = Examination(
            radiograph, predictions, heatmaps, together, operating_point, prepared.lungs, self.bundle.notices
        )
        test = self.bundle.manifest["together"].get("test") if together else None
        # How often such an answer was right was counted at the default operating point alone.
        if test is None or operating_point != OPERATING_POINTS[0]:
            return examination
        precedents = {
            **test["agreement"][str(len(examination.calling_pneumonia))],
            "of": test["images"],
            "prevalence": test["prevalence"],
        }
        return replace(examination, precedents=precedents)


def uncertain_words(together: JointPrediction) -> str:
    """Why the three together are uncertain, in one sentence."""
    return (
        f"Together the networks are uncertain: their mean of {probability(together.probability)} lies between "
        f"{percent(together.low)} and {percent(together.high)}, where held-out radiographs of both kinds are found."
    )


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


def _joint_record(together: JointPrediction | None) -> JointRecord | None:
    return {**_prediction_record(together), "uncertain": together.uncertain} if together else None


def _lungs_record(lungs: Lungs | None) -> LungsRecord | None:
    if lungs is None:
        return None
    box = [round(edge, 4) for edge in dataclasses.astuple(lungs.box)] if lungs.found else None
    return {"found": lungs.found, "reason": lungs.reason, "share": round(lungs.share, 4), "box": box}


def _saliency_record(heatmap: Heatmap | None, evidence: Evidence | None) -> SaliencyRecord | None:
    if heatmap is None:
        return None
    peak = heatmap.peak
    return {
        "method": heatmap.method,
        "target": heatmap.target,
        "status": str(heatmap.status),
        "peak": None if peak is None else round(peak, 6),
        "share_in_lungs": round(evidence.share_in_lungs, 4) if evidence else None,
        "chance": round(evidence.chance, 4) if evidence else None,
        "zones": {name: round(share, 4) for name, share in evidence.zones.items()} if evidence else None,
        "peak_at": [round(place, 4) for place in evidence.peak] if evidence else None,
        "peak_zone": evidence.peak_zone if evidence else None,
        "words": evidence.words if evidence else heat_words(heatmap),
    }
