"""The whole page: header, tabs, and how it is served."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from pneumo.examination import DISCLAIMER
from pneumo.radiograph import MAX_BYTES
from pneumo.ui import sessions, teach, theme, tools, uploads
from pneumo.ui.components import check_inputs
from pneumo.ui.guard import Guard
from pneumo.ui.numbers import build_numbers_tab
from pneumo.ui.read import UPLOAD_LIFETIME, build_read_tab
from pneumo.ui.running import Running
from pneumo.ui.service import EXAMINATIONS, ExaminationService

QUEUE_LENGTH = 64
"""Examinations that may wait; one more is told that the page is busy."""


def build_interface(service: ExaminationService) -> gr.Blocks:
    """Build the page. It is complete before any network is loaded.

    Parameters
    ----------
    service : ExaminationService
        Not yet started, or loading, or loaded.

    Returns
    -------
    gradio.Blocks
    """
    with gr.Blocks(
        title="pneumo: three networks read a chest X-ray",
        analytics_enabled=False,
        delete_cache=(UPLOAD_LIFETIME, UPLOAD_LIFETIME),
    ) as page:
        gr.HTML(
            '<header class="masthead"><h1>pneumo</h1><p>Three networks read a chest X-ray for pneumonia '
            f'and show where each looked.</p><p class="disclaimer">{DISCLAIMER}</p></header>'
        )
        # In two lines on a phone: a tab in a menu is not found, and no link opens it.
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Read a radiograph"):
                build_read_tab(service)
            with gr.Tab("Teaching room", elem_id=teach.TAB):
                teach.build_teaching_tab()
            with gr.Tab("The numbers"):
                build_numbers_tab(service, page)
    page.queue(max_size=QUEUE_LENGTH)
    check_inputs(page)
    return page


def launch(**options: Any) -> None:
    """Serve the page until the program is told to stop, and load the networks meanwhile.

    Parameters
    ----------
    **options
        Passed to Gradio's `launch`. Address and port follow GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
    """
    uploads.keep_apart()
    service = ExaminationService()
    page = build_interface(service)
    running = Running(page, service)
    _log_examinations()
    # A port that is named is the only one tried; Gradio itself would take the next free one.
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    if not _is_free(port):
        sys.exit(f"The page needs a free port; {port} is in use. Name another: make app PORT=7861")
    page.launch(
        server_port=port,
        theme=theme.theme(),
        css_paths=theme.CSS,
        head=theme.HEAD + teach.HEAD,
        max_file_size=MAX_BYTES,
        footer_links=["api"],
        # Gradio would keep what was examined, with the files, in the visitor's browser.
        run_history=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
        ssr_mode=False,
        state_session_capacity=sessions.CAPACITY,
        app_kwargs={
            "lifespan": _lifespan(service),
            "routes": [*teach.teaching_routes(service), *running.routes()],
            "middleware": [Middleware(Guard)],
        },
        **options,
    )
    # Not before: importing TensorFlow holds up all threads of the server again and again.
    service.start()
    running.until_stopped()


def _lifespan(service: ExaminationService) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """What goes on while the page is served."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with sessions.forgetting(app), tools.serving(service)(app):
            yield

    return lifespan


def _log_examinations() -> None:
    """One line an examination on the standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    EXAMINATIONS.handlers = [handler]
    EXAMINATIONS.setLevel(logging.INFO)
    EXAMINATIONS.propagate = False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), port))
        except OSError:
            return False
    return True
