"""How long it takes to find the lungs of one radiograph."""

from __future__ import annotations

import statistics
import time

from pneumo.bundle import load_bundle
from pneumo.framing import to_raster
from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import load_examples

_WARM_UP = 10


def lungs(repeats: int) -> None:
    """Find the lungs of the page's examples again and again, one image at a time; print milliseconds an image.

    Parameters
    ----------
    repeats : int
        How many images are measured.
    """
    segmenter = load_bundle().segmenter
    if segmenter is None:
        print("The networks of this bundle do not ask for the lungs.")
        return
    rasters = [to_raster(read_radiograph(example.path).pixels) for example in load_examples()]
    times = []
    for number in range(_WARM_UP + repeats):
        started = time.perf_counter()
        found = segmenter.find(rasters[number % len(rasters)])
        if found.found:
            found.box  # noqa: B018 - found when it is first asked for
        times.append((time.perf_counter() - started) * 1000)
    times = sorted(times[_WARM_UP:])
    print(f"{'milliseconds an image, over ' + str(repeats):<44}{'median':>8}{'p95':>8}{'max':>8}")
    p95 = times[int(0.95 * (len(times) - 1))]
    print(f"{'segmenter, two lungs and their box':<44}{statistics.median(times):>8.1f}{p95:>8.1f}{times[-1]:>8.1f}")
