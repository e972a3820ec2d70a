"""The networks behind the page, loaded in the background so that the page is up first."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from pneumo.backend import uncollected
from pneumo.bundle import (
    METRICS,
    OPERATING_POINTS,
    BundleFiles,
    bundle_location,
    is_on_hub,
    load_bundle,
    open_bundle,
    read_manifest,
)
from pneumo.cases import CASES, CaseLibrary
from pneumo.classifier import parse_operating_point
from pneumo.errors import BundleError, HubUnreachable, PneumoError, ServerBusy
from pneumo.examination import Examination, Examiner, radiograph_of
from pneumo.framing import RASTER
from pneumo.radiograph import Radiograph, read_radiograph
from pneumo.sanity import SanityCheck

TIME_LIMIT = 60.0
"""Seconds that an examination may take, until its turn comes included."""
EXAMINATIONS = logging.getLogger("pneumo.examinations")
"""Where one JSON object an examination is logged: when, how long, of what size; neither its name nor its answer."""
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class ExaminationService:
    """Examines uploads, one at a time, with networks that load while the page is already served.

    Parameters
    ----------
    location : str, optional
        Bundle to load. Default: that of the environment, else the embedded one.
    """

    def __init__(self, location: str | None = None) -> None:
        self._location = location
        self._examiner: Future[Examiner] = Future()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="examine")
        self._began: float | None = None
        self._starting = threading.Lock()
        self._library: CaseLibrary | None = None
        self._opening = threading.Lock()

    def start(self) -> None:
        """Begin to load the networks, and warm them, on a thread of its own."""
        threading.Thread(target=self._load, args=(self._examiner,), name="load-networks", daemon=True).start()

    def examiner(self) -> Examiner:
        """The loaded networks; waits for them.

        Raises
        ------
        BundleError
            If they cannot be loaded. If the Hub could not be reached, the next call tries again.
        """
        return self._current().result()

    async def wait(self) -> Examiner:
        """The same, without holding a thread meanwhile."""
        return await asyncio.shield(asyncio.wrap_future(self._current()))

    def examine(
        self, radiograph: Radiograph | Examination, operating_point: str | float = OPERATING_POINTS[0], **choices: Any
    ) -> Examination:
        """Examine one radiograph; others wait.

        Parameters
        ----------
        radiograph : Radiograph or Examination
            As `Examiner.examine` takes it.
        operating_point : str or float
            The name of one, or a threshold, as `Examiner.examine` takes it.
        **choices
            Its other choices: `method`, `target`, `cover`.

        Raises
        ------
        UnknownNameError
            If a choice is refused; of the operating point that is known before the networks are.
        BundleError
            If the networks cannot be loaded.
        ServerBusy
            If it was not finished within `TIME_LIMIT`.
        """
        operating_point = parse_operating_point(operating_point)
        examiner = self.examiner()
        return self._in_turn(radiograph, lambda: examiner.examine(radiograph, operating_point, **choices))

    def sanity(
        self, radiograph: Radiograph | Examination, operating_point: str | float, method: str, target: str
    ) -> list[SanityCheck]:
        """The maps of the same networks with random weights; arguments and errors as `examine`."""
        examiner = self.examiner()
        return self._in_turn(radiograph, lambda: examiner.sanity(radiograph, operating_point, method, target))

    def state(self) -> str:
        """How it is: "loading", "failed", "ready", or "stuck" if an examination takes longer than it may."""
        if not self._examiner.done():
            return "loading"
        if self._examiner.exception():
            return "failed"
        began = self._began
        return "stuck" if began is not None and time.monotonic() - began > TIME_LIMIT else "ready"

    def library(self) -> CaseLibrary:
        """The case library of the bundle, read once; the networks need not be loaded.

        Raises
        ------
        BundleError
            If the bundle has none.
        """
        with self._opening:
            if self._library is None:
                files = self._files()
                library = CaseLibrary(files.path(CASES))
                expected = {name: entry["sha256"] for name, entry in read_manifest(files)["networks"].items()}
                if library.networks != expected:
                    raise BundleError(
                        f"A case library must be that of the bundle's networks; that of {files.location} was made "
                        "with others. Make it again with `python -m training cases`."
                    )
                self._library = library
            return self._library

    def metrics(self) -> dict[str, Any]:
        """All measures of the bundle on the test split.

        Raises
        ------
        BundleError
            If it has not been evaluated.
        """
        path = self._files().path(METRICS)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(
                f"The networks must have been evaluated to be compared; {path} cannot be read ({error}). "
                "Run `python -m training evaluate`."
            ) from error

    def _in_turn(self, source: Radiograph | Examination, examine: Callable[[], _T]) -> _T:
        """Do it when those before are done, log it, and give up after `TIME_LIMIT`."""
        asked = time.monotonic()
        waited = None

        def run() -> _T:
            nonlocal waited
            self._began = time.monotonic()
            waited = self._began - asked
            try:
                return examine()
            finally:
                self._began = None

        outcome, radiograph = "failed", radiograph_of(source)
        future = self._worker.submit(run)
        try:
            answer = future.result(TIME_LIMIT)
            outcome = "answered"
        except TimedOut as error:
            future.cancel()
            outcome = "busy"
            raise ServerBusy(
                f"An examination may take at most {TIME_LIMIT:.0f} s; this one was not finished by then. "
                "Try again in a minute."
            ) from error
        except PneumoError:
            outcome = "refused"
            raise
        finally:
            entry = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "outcome": outcome,
                "seconds": round(time.monotonic() - asked, 3),
                "waited": None if waited is None else round(waited, 3),
                "format": radiograph.format,
                "width": radiograph.width,
                "height": radiograph.height,
            }
            EXAMINATIONS.info("%s", json.dumps(entry))
        return answer

    def _files(self) -> BundleFiles:
        """The files of the bundle; of one on the Hub, those of the commit whose networks were loaded."""
        chosen = bundle_location(self._location)
        return open_bundle(self.examiner().bundle.location if is_on_hub(chosen) else chosen)

    def _current(self) -> Future[Examiner]:
        with self._starting:
            future = self._examiner
            if future.done() and isinstance(future.exception(), HubUnreachable):
                self._examiner = Future()
                self.start()
            return self._examiner

    def _load(self, future: Future[Examiner]) -> None:
        try:
            with uncollected():
                examiner = Examiner(load_bundle(self._location))
                # The first examination compiles what the visitors' then only run.
                examiner.examine(read_radiograph(np.zeros((RASTER, RASTER), np.uint8)), anyway=True)
        except BundleError as error:
            _LOG.error("%s", error)
            future.set_exception(error)
        except Exception as error:  # whatever else it was: who waits for the networks must be told
            _LOG.exception("The networks could not be loaded.")
            future.set_exception(
                BundleError(f"The networks could not be loaded ({error}). The server's log says more.")
            )
        else:
            future.set_result(examiner)
