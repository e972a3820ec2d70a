"""The networks behind the page, loaded in the background so that the page is up first."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np

from pneumo.bundle import load_bundle
from pneumo.examination import Examination, Examiner
from pneumo.radiograph import TRAINING_SIDE, read_radiograph


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
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to load the networks, and warm them, on a thread of its own."""
        threading.Thread(target=self._load, name="load-networks", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the networks are loaded."""
        return self._examiner.done() and self._examiner.exception() is None

    def examiner(self) -> Examiner:
        """The loaded networks; waits for them.

        Raises
        ------
        BundleError
            If they cannot be loaded.
        """
        return self._examiner.result()

    def examine(self, data: bytes, name: str) -> Examination:
        """Read and examine one uploaded file.

        Raises
        ------
        UnreadableRadiograph, RadiographSizeError
            If the file is refused; that is known before the networks are.
        BundleError
            If the networks cannot be loaded.
        """
        radiograph = read_radiograph(data, name)
        examiner = self.examiner()
        with self._lock:
            return examiner.examine(radiograph)

    def _load(self) -> None:
        try:
            examiner = Examiner(load_bundle(self._location))
            # The first examination compiles what the visitors' then only run.
            examiner.examine(read_radiograph(np.zeros((TRAINING_SIDE, TRAINING_SIDE), np.uint8)))
        except BaseException as error:  # whatever it was, it is raised to whoever asks for the networks
            self._examiner.set_exception(error)
            raise
        self._examiner.set_result(examiner)
