"""All that the program says of one radiograph: the same for the page, the command line, the API and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from pneumo.bundle import OPERATING_POINTS, Bundle
from pneumo.classifier import Classifier, JointPrediction, Prediction, parse_operating_point
from pneumo.covering import COVERS, Covering, regions
from pneumo.errors import NotAChestRadiograph, UnknownNameError
from pneumo.evidence import Evidence, disagreement, evidence_of
from pneumo.framing import Prepared
from pneumo.gate import Judgement, refusal_words
from pneumo.graph import Answers, NetworkGraph
from pneumo.lungs import Lungs
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import Radiograph
from pneumo.reading import Reading, read_all
from pneumo.records import (
    ExaminationRecord,
    NetworkRecord,
    covered_record,
    gate_record,
    header_record,
    joint_record,
    lungs_record,
    prediction_record,
    saliency_record,
)
from pneumo.report import percent, probability
from pneumo.saliency import Explainer, Heatmap
from pneumo.sanity import SanityCheck, SanityChecker
from pneumo.zoo import CLASS_NAMES, architecture

DISCLAIMER = "For research and teaching, not for diagnosis."
"""What every output says."""
DECIDED = "decided"
"""Names, as a class to explain, the one that each network decided."""
TARGETS = (DECIDED, *CLASS_NAMES)
"""What `Examiner.examine` takes as a class to explain."""
_ALL_WORDS = {2: "Both", 3: "All three"}


@dataclass(frozen=True)
class Examination:
    """All of it for one radiograph.

    Attributes
    ----------
    radiograph : Radiograph
    predictions : dict of str to Prediction
        By network.
    heatmaps : dict of str to Heatmap
        By network, for the class that it decided unless one was named; empty if none were asked for.
    coverings : dict of str to Covering
        By network; empty if nothing was to be covered, without a network whose map has no hottest zone.
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
    judgement : Judgement or None
        Whether it is a chest radiograph, and what is odd about it; None if the bundle has no gate.
    reading : Reading or None
        What was computed for it, and need not be when it is examined again; None if it was not made by an `Examiner`.
    """

    radiograph: Radiograph
    predictions: dict[str, Prediction]
    heatmaps: dict[str, Heatmap]
    together: JointPrediction | None
    operating_point: str | float = OPERATING_POINTS[0]
    lungs: Lungs | None = None
    notices: tuple[str, ...] = ()
    precedents: dict | None = None
    coverings: dict[str, Covering] = field(default_factory=dict)
    judgement: Judgement | None = None
    reading: Reading | None = field(default=None, repr=False, compare=False)

    @cached_property
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
    def refusal(self) -> str:
        """Why it should not have been answered; "" if it is taken for a frontal chest radiograph."""
        judged = self.judgement
        return refusal_words(self.radiograph.name, judged.other) if judged and judged.refused else ""

    @property
    def urgent_warnings(self) -> tuple[str, ...]:
        """Those of the warnings by which it is no radiograph that the networks could read."""
        found = [self.refusal, *self.radiograph.warnings, *(self.judgement.warnings if self.judgement else ())]
        if self.lungs is not None and not self.lungs.found:
            found.append(
                f"{self.lungs.reason} The networks were shown the whole image instead of the lungs, which they were "
                "not trained for: do not rely on this answer."
            )
        return tuple(filter(None, found))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before believing the rest."""
        found = [*self.notices, *self.radiograph.notes, *self.urgent_warnings]
        if self.together is not None and self.together.uncertain:
            found.append(uncertain_words(self.together))
        for name, heatmap in self.heatmaps.items():
            if text := heatmap.status_words:
                found.append(f"{architecture(name).title}: {text}")
        return (*found, *self.heat_warnings)

    @property
    def heat_warnings(self) -> tuple[str, ...]:
        """Why the maps that are drawn should not be believed: heat no better placed than chance, or in no agreement."""
        found = {name: evidence for name, evidence in self.heat_evidence.items() if evidence}
        blind = [name for name, evidence in found.items() if not evidence.above_chance]
        whose, which = ("its", "map") if len(blind) == 1 else ("their", "maps")
        words = f"{whose} heat lies no better in the lungs than chance; do not believe {whose} {which}."
        warnings = [f"{_titles(blind)}: {words}"] if blind else []
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
                **prediction_record(prediction),
                "saliency": saliency_record(self.heatmaps.get(name), found.get(name)),
                "covered": covered_record(self.coverings.get(name)),
            }
            for name, prediction in self.predictions.items()
        }
        return {
            "file": self.radiograph.name,
            "operating_point": self.operating_point if isinstance(self.operating_point, str) else "custom",
            "networks": networks,
            "together": joint_record(self.together),
            "lungs": lungs_record(self.lungs),
            "header": header_record(self.radiograph.header),
            "gate": gate_record(self.judgement),
            "agreement": {
                "calling_pneumonia": len(self.calling_pneumonia),
                "networks": len(self.predictions),
                "unanimous": self.unanimous,
            },
            "summary": " ".join(filter(None, (self.headline, self.meaning))),
            "warnings": list(self.warnings),
        }


class Choices(TypedDict, total=False):
    """What `Examiner.examine` takes by name."""

    method: str | None
    target: str
    cover: str | np.ndarray
    anyway: bool


class _Question(NamedTuple):
    """What is asked of each radiograph, once its choices are known to be in order."""

    graph: NetworkGraph
    explainer: Explainer | None
    operating_point: str | float
    target: str
    cover: str | np.ndarray
    anyway: bool


class Examiner:
    """Examines radiographs with the networks of a bundle.

    Parameters
    ----------
    bundle : Bundle
    saliency : str or None
        Method of the heatmaps, one of `pneumo.methods.METHODS`; None for none.

    Attributes
    ----------
    bundle, method
        As given.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    """

    def __init__(self, bundle: Bundle, saliency: str | None = DEFAULT_METHOD) -> None:
        self.bundle = bundle
        self._classifier = Classifier(bundle)
        self.method = saliency
        self._explainers: dict[str, Explainer] = {}
        self._graphs: dict[bool, NetworkGraph] = {}
        self._checkers: dict[str, SanityChecker] = {}
        if saliency:
            self._explainer(saliency)

    def examine(
        self,
        radiograph: Radiograph | Examination,
        operating_point: str | float = OPERATING_POINTS[0],
        method: str | None = None,
        target: str = DECIDED,
        cover: str | np.ndarray = "",
        anyway: bool = False,
    ) -> Examination:
        """Predict, explain each decision, and compare the networks.

        Parameters
        ----------
        radiograph : Radiograph or Examination
            Of an earlier examination, what was computed for it is not computed again.
        operating_point : str or float
            One of `pneumo.bundle.OPERATING_POINTS`, or a threshold between 0 and 1 for all networks and their mean.
        method : str, optional
            One of `pneumo.methods.METHODS`. Default: that of this examiner.
        target : str
            The class to explain, one of `TARGETS`.
        cover : str or numpy.ndarray of bool, shape (224, 224)
            What to cover and ask the networks again: one of `COVERS`, or a painted region on the raster of
            `pneumo.framing.to_raster`.
        anyway : bool
            Whether to answer even if it is taken for no chest radiograph.

        Raises
        ------
        UnknownNameError
            If there is no such operating point, method or class, or nothing of that name to cover.
        NotAChestRadiograph
            If it is taken for no frontal chest radiograph.
        """
        question = self._question(operating_point, method=method, target=target, cover=cover, anyway=anyway)
        return self._answered([self._reading(radiograph, question)], question)[0]

    def examine_all(
        self,
        radiographs: Sequence[Radiograph],
        operating_point: str | float = OPERATING_POINTS[0],
        **choices: Unpack[Choices],
    ) -> list[Examination]:
        """Examine several at once, which is faster; arguments and errors as `examine`."""
        question = self._question(operating_point, **choices)
        prepared = self.bundle.prepare_all(radiographs)
        return self._answered(read_all(self.bundle, question.graph, radiographs, prepared), question)

    def examine_prepared(
        self,
        radiographs: Sequence[Radiograph],
        prepared: Sequence[Prepared],
        operating_point: str | float = OPERATING_POINTS[0],
        **choices: Unpack[Choices],
    ) -> list[Examination]:
        """The same of radiographs that `Bundle.prepare_all` has prepared.

        What is taken for no chest radiograph has a `refusal`, and without `anyway` no heatmaps; other errors as
        `examine`.
        """
        question = self._question(operating_point, **choices)
        readings = read_all(self.bundle, question.graph, radiographs, prepared)
        return [self._examination(reading, question) for reading in readings]

    def graph(self, explained: bool = True) -> NetworkGraph:
        """The networks as one compiled graph, with or without what the default heatmaps are made of."""
        if explained not in self._graphs:
            self._graphs[explained] = NetworkGraph(self.bundle, explained)
        return self._graphs[explained]

    def _question(
        self,
        operating_point: str | float,
        method: str | None = None,
        target: str = DECIDED,
        cover: str | np.ndarray = "",
        anyway: bool = False,
    ) -> _Question:
        operating_point = parse_operating_point(operating_point)
        method = method or self.method
        for kind, name, known in (("class to explain", target, TARGETS), ("region to cover", cover, COVERS)):
            if isinstance(name, str) and name not in known:
                raise UnknownNameError(
                    f"A {kind} must be one of {', '.join(filter(None, known))}; received {name!r}. Correct the name."
                )
        explainer = self._explainer(method) if method else None
        return _Question(self.graph(explained=bool(method)), explainer, operating_point, target, cover, anyway)

    def _reading(self, source: Radiograph | Examination, question: _Question) -> Reading:
        if isinstance(source, Examination) and source.reading and source.reading.graph is question.graph:
            return source.reading
        radiograph = radiograph_of(source)
        return read_all(self.bundle, question.graph, [radiograph], self.bundle.prepare_all([radiograph]))[0]

    def _answered(self, readings: Sequence[Reading], question: _Question) -> list[Examination]:
        found = [self._examination(reading, question) for reading in readings]
        for examination in found:
            if examination.refusal and not question.anyway:
                raise NotAChestRadiograph(examination.refusal)
        return found

    def _examination(self, reading: Reading, question: _Question) -> Examination:
        predictions = self._decided(reading.answers, 0, question.operating_point)
        heatmaps: dict[str, Heatmap] = {}
        if question.explainer and (question.anyway or not (reading.judgement and reading.judgement.refused)):
            for name, own in predictions.items():
                target = own.decision if question.target == DECIDED else question.target
                heatmaps[name] = reading.heatmap(question.explainer, name, target)
        examination = Examination(
            reading.radiograph,
            predictions,
            heatmaps,
            self._classifier.together(predictions, question.operating_point),
            question.operating_point,
            reading.prepared.lungs,
            self.bundle.notices,
            judgement=reading.judgement,
            reading=reading,
        )
        return self._with_precedents(replace(examination, coverings=self._cover(examination, reading, question.cover)))

    def _decided(self, answers: Answers, number: int, operating_point: str | float) -> dict[str, Prediction]:
        return {
            name: self._classifier.decided(name, float(values[number]), operating_point)
            for name, values in answers.probabilities.items()
        }

    def _with_precedents(self, examination: Examination) -> Examination:
        test = self.bundle.manifest["together"].get("test") if examination.together else None
        # How often such an answer was right was counted at the default operating point alone.
        if test is None or examination.operating_point != OPERATING_POINTS[0]:
            return examination
        precedents = {
            **test["agreement"][str(len(examination.calling_pneumonia))],
            "of": test["images"],
            "prevalence": test["prevalence"],
        }
        return replace(examination, precedents=precedents)

    def sanity(
        self,
        radiograph: Radiograph | Examination,
        operating_point: str | float = OPERATING_POINTS[0],
        method: str = DEFAULT_METHOD,
        target: str = DECIDED,
    ) -> list[SanityCheck]:
        """Explain the same by networks with random weights; arguments and errors as `examine`."""
        if method not in self._checkers:
            self._checkers[method] = SanityChecker(self.bundle, method)
        question = self._question(operating_point, method=method, target=target, anyway=True)
        reading = self._reading(radiograph, question)
        return self._checkers[method].check(reading.prepared, self._examination(reading, question).heatmaps)

    def _explainer(self, method: str) -> Explainer:
        if method not in self._explainers:
            self._explainers[method] = Explainer(self.bundle, method)
        return self._explainers[method]

    def _cover(self, examination: Examination, reading: Reading, cover: str | np.ndarray) -> dict[str, Covering]:
        if isinstance(cover, str) and not cover:  # Nothing is to be known of the evidence yet.
            return {}
        chosen = regions(cover, examination.lungs, examination.predictions, examination.heat_evidence)
        # Networks with the same region are asked in one pass.
        masks = dict(chosen.values())
        if not masks:
            return {}
        answers = reading.with_covered(list(masks.values()))
        coverings = {}
        for name, (region, mask) in chosen.items():
            again = self._decided(answers, list(masks).index(region), examination.operating_point)[name]
            coverings[name] = Covering(region, mask, examination.predictions[name], again)
        return coverings


def radiograph_of(source: Radiograph | Examination) -> Radiograph:
    """A radiograph, or that of an examination."""
    return source.radiograph if isinstance(source, Examination) else source


def uncertain_words(together: JointPrediction) -> str:
    """Why the networks together are uncertain, in one sentence."""
    return (
        f"Together the networks are uncertain: their mean of {probability(together.probability)} lies between "
        f"{percent(together.low)} and {percent(together.high)}, where held-out radiographs of both kinds are found."
    )


def _titles(names: Iterable[str]) -> str:
    titles = [architecture(name).title for name in names]
    return " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
