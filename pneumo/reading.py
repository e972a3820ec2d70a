"""What was computed of one radiograph, kept while it is on show so that none of it is computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pneumo.bundle import Bundle
from pneumo.cover import covered
from pneumo.framing import Prepared
from pneumo.gate import Judgement, Look, look_at
from pneumo.graph import Answers, NetworkGraph
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import Radiograph, right
from pneumo.saliency import Explainer, Heatmap


class Reading:
    """A radiograph with what the networks said of it.

    This is all that is remembered, and none of it depends on the operating point: the prepared radiograph with its
    lungs; the networks' answers, and what the gate made of them; the heatmaps that were asked for, by method, network
    and class; and the answers to what was covered last. What else is said or shown is arithmetic on these, or drawn.

    An `Examination` holds the one it was made from, and nothing else does: the page keeps that examination in the
    session of one visitor, and both are freed together. With the maps of all methods, of networks that take 112 x 112
    pixels, it takes 1.4 MB beside the radiograph; 0.9 MB with those of the default one. One thread at a time may
    examine it.

    Parameters
    ----------
    radiograph : Radiograph
    prepared : Prepared
    answers : Answers
        Of it alone.
    judgement : Judgement or None
        None if the bundle has no gate.
    graph : NetworkGraph
        What gave the answers.
    """

    def __init__(
        self,
        radiograph: Radiograph,
        prepared: Prepared,
        answers: Answers,
        judgement: Judgement | None,
        graph: NetworkGraph,
    ) -> None:
        self.radiograph, self.prepared, self.answers = radiograph, prepared, answers
        self.judgement, self.graph = judgement, graph
        self._heatmaps: dict[tuple[str, str, str], Heatmap] = {}
        self._covered: tuple[bytes, Answers] | None = None

    def heatmap(self, explainer: Explainer, name: str, target: str) -> Heatmap:
        """One network's map for one class; that of the default method is in the answers if they are explained."""
        key = explainer.method, name, target
        if key not in self._heatmaps:
            signed = self.answers.signed.get(name) if explainer.method == DEFAULT_METHOD else None
            found = explainer.explain(name, self.prepared, target, None if signed is None else signed[0])
            self._heatmaps[key] = found
        return self._heatmaps[key]

    def with_covered(self, masks: Sequence[np.ndarray]) -> Answers:
        """The answers to each of some regions covered, bool, shape (224, 224)."""
        key = b"".join(np.packbits(mask).tobytes() for mask in masks)
        if self._covered is None or self._covered[0] != key:
            self._covered = key, self.graph.ask([covered(self.prepared, mask) for mask in masks])
        return self._covered[1]


def read_all(
    bundle: Bundle, graph: NetworkGraph, radiographs: Sequence[Radiograph], prepared: Sequence[Prepared]
) -> list[Reading]:
    """Let the networks answer, all radiographs at once.

    Parameters
    ----------
    bundle : Bundle
    graph : NetworkGraph
        Its networks.
    radiographs : sequence of Radiograph
    prepared : sequence of Prepared
        The same, by `Bundle.prepare_all`.
    """
    if not radiographs:
        return []
    answers = graph.ask(prepared)
    readings = []
    for number, (radiograph, item) in enumerate(zip(radiographs, prepared, strict=True)):
        own = answers.of(number)
        judgement = _judged(bundle, graph, item, own)
        if judgement and judgement.refused and radiograph.header and radiograph.header.is_chest_radiograph:
            judgement = replace(judgement, refused=False, oddities=("unlike",))
        readings.append(Reading(radiograph, item, own, judgement, graph))
    return readings


def _judged(bundle: Bundle, graph: NetworkGraph, prepared: Prepared, answers: Answers) -> Judgement | None:
    if bundle.gate is None or prepared.sight is None:
        return None

    def righted(turn: int, invert: bool) -> Look:
        again = bundle.prepare_rasters([right(prepared.raster, turn, invert)], [prepared.aspect])
        return look_at(again[0], graph.ask(again))

    return bundle.gate.judge(look_at(prepared, answers), righted)
