"""How long it takes to examine one radiograph."""

from __future__ import annotations

import statistics
import time

from pneumo.bundle import load_bundle
from pneumo.classifier import Classifier
from pneumo.examination import Examiner
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Explainer
from pneumo.ui.examples import load_examples

_WARM_UP = 10


def examine(repeats: int) -> None:
    """Examine the page's examples again and again; print milliseconds an image.

    Parameters
    ----------
    repeats : int
        How many examinations are measured.
    """
    bundle = load_bundle()
    examiner, classifier, explainer = Examiner(bundle), Classifier(bundle), Explainer(bundle)
    radiographs = [read_radiograph(example.path) for example in load_examples()]

    def networks(radiograph) -> None:
        for name, prediction in classifier.predict(prepared[id(radiograph)]).items():
            explainer.explain(name, prepared[id(radiograph)], prediction.decision)

    prepared = {id(radiograph): bundle.prepare(radiograph) for radiograph in radiographs}
    print(f"{'milliseconds an image, over ' + str(repeats):<60}{'median':>8}{'p95':>8}{'max':>8}")
    for title, task in (
        (f"three predictions and three {DEFAULT_METHOD} maps", networks),
        ("all of an examination, the lungs included", examiner.examine),
    ):
        times = []
        for number in range(_WARM_UP + repeats):
            started = time.perf_counter()
            task(radiographs[number % len(radiographs)])
            times.append((time.perf_counter() - started) * 1000)
        times = sorted(times[_WARM_UP:])
        p95 = times[int(0.95 * (len(times) - 1))]
        print(f"{title:<60}{statistics.median(times):>8.1f}{p95:>8.1f}{times[-1]:>8.1f}")
