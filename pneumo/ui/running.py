"""How the server runs: whether it is ready, what it says when it is busy, and how it stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pneumo.ui.service import ExaminationService

GRACE = 30.0
"""Seconds that examinations have to be finished once the program is told to stop."""
BUSY = "The page is busy: as many examinations are waiting as may wait. Try again in a minute."
"""What is said to one that would wait behind too many."""
STOPPING = "The page is being restarted. Try again in a minute."
"""What is said to one that comes when the program is told to stop."""
_FETCH = 3.0


class Running:
    """A page that is served until the program is told to stop.

    Parameters
    ----------
    page : gradio.Blocks
        With its queue.
    service : ExaminationService
    """

    def __init__(self, page: gr.Blocks, service: ExaminationService) -> None:
        self._page, self._service = page, service
        self._stop = threading.Event()
        self._answer_politely()

    def routes(self) -> list[BaseRoute]:
        """The health endpoint: 200 when the networks are ready, else 503, and in either case why."""

        def health(_request: Request) -> Response:
            state = "stopping" if self._stop.is_set() else self._service.state()
            content: dict[str, Any] = {"status": state}
            if state == "ready":
                networks = self._service.examiner().bundle.manifest["networks"]
                content["networks"] = {name: entry["sha256"] for name, entry in networks.items()}
            return JSONResponse(content, 200 if state == "ready" else 503, headers={"Cache-Control": "no-store"})

        return [Route("/health", health)]

    def until_stopped(self) -> None:
        """Wait for SIGTERM or SIGINT; then answer what is being examined, refuse the rest, and close the page.

        A second signal ends the program at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        self._stop.wait()
        deadline = time.monotonic() + GRACE
        while self._is_at_work() and time.monotonic() < deadline:
            time.sleep(0.02)
        # An answer is fetched by a request of its own, which some never make.
        deadline = min(deadline, time.monotonic() + _FETCH)
        while self._has_answers() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._page.close(verbose=False)
        if self._service.state() == "stuck":
            # Python would wait for its thread.
            os._exit(1)

    def _told_to_stop(self, _number: int, _frame: Any) -> None:
        self._stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    def _is_at_work(self) -> bool:
        queue = self._page._queue
        return len(queue) > 0 or any(queue.active_jobs)

    def _has_answers(self) -> bool:
        return any(list(self._page._queue.pending_event_ids_session.values()))

    def _answer_politely(self) -> None:
        queue = self._page._queue
        push = queue.push

        async def push_politely(**options: Any) -> tuple[bool, Any, Any]:
            if self._stop.is_set():
                return False, STOPPING, "queue_full"
            done, words, state = await push(**options)
            return done, BUSY if state == "queue_full" else words, state

        queue.push = push_politely  # type: ignore[method-assign, assignment]
