"""The networks behind the page, loaded in the background so that the page is up first."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from concurrent.futures import Future
from typing import Any

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
from pneumo.errors import BundleError, HubUnreachable
from pneumo.examination import Examination, Examiner
from pneumo.framing import RASTER
from pneumo.radiograph import Radiograph, read_radiograph
from pneumo.sanity import SanityCheck

_LOG = logging.getLogger(__name__)


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
        self._examining = threading.Lock()
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
        self, radiograph: Radiograph, operating_point: str | float = OPERATING_POINTS[0], **choices: Any
    ) -> Examination:
        """Examine one radiograph; others wait.

        Parameters
        ----------
        radiograph : Radiograph
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
        """
        operating_point = parse_operating_point(operating_point)
        examiner = self.examiner()
        with self._examining:
            return examiner.examine(radiograph, operating_point, **choices)

    def sanity(
        self, radiograph: Radiograph, operating_point: str | float, method: str, target: str
    ) -> list[SanityCheck]:
        """The maps of the same networks with random weights; arguments and errors as `examine`."""
        examiner = self.examiner()
        with self._examining:
            return examiner.sanity(radiograph, operating_point, method, target)

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
