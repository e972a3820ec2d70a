"""What stands before Gradio: doors that this page does not need are closed, and no request is larger than it may be."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_client import utils as client_utils
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumo.radiograph import MAX_BYTES
from pneumo.ui.uploads import MAX_TOTAL

CLOSED = (
    "/gradio_api/component_server",
    "/gradio_api/custom_component/",
    "/gradio_api/deep_link",
    "/gradio_api/dev/",
    "/gradio_api/file/",
    "/gradio_api/file=",
    "/gradio_api/process_recording",
    "/gradio_api/proxy=",
    "/gradio_api/run-history",
    "/gradio_api/runs",
    "/gradio_api/stream/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/vibe-",
    "/monitoring",
)
"""Beginnings of the paths of Gradio that fetch addresses, serve files of the disk, write a visitor's state to it, or
are for developers."""
UPLOAD = "/gradio_api/upload"
"""Where files are uploaded."""
_ENVELOPE = 2**20
MAX_BODY = MAX_BYTES * 4 // 3 + _ENVELOPE
"""Largest body of any other request, in bytes: a file as base64, and what is around it."""


class Guard:
    """ASGI middleware that refuses what is closed (404) and what is too large (413)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path.startswith(CLOSED):
            await _refusal("This page has nothing at that address.", 404)(scope, receive, send)
            return
        limit = MAX_TOTAL + _ENVELOPE if path.startswith(UPLOAD) else MAX_BODY
        too_large = _refusal(f"A request may have at most {limit // 2**20} MiB. Send less.", 413)
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            await too_large(scope, receive, send)
            return
        started, received = False, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # One that did not tell its length.
            if received > limit:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except _TooLarge:
            if not started:
                await too_large(scope, receive, send)


def refuse_addresses(inputs: list[Any]) -> None:
    """Refuse a file that is only named by its address on another server: this one fetches nothing for a visitor.

    Raises
    ------
    gradio.Error
        If there is one.
    """

    def check(file: dict[str, Any]) -> dict[str, Any]:
        # Of `url`, by which a browser says where it sees its own upload, Gradio takes nothing here.
        if "://" in str(file.get("path") or ""):
            raise gr.Error(
                "A radiograph must be uploaded; received an address. Download it, and upload the file.",
                print_exception=False,
            )
        return file

    client_utils.traverse(inputs, check, client_utils.is_file_obj)


class _TooLarge(Exception):
    """Raised in the middle of a request that is too large."""


def _refusal(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message}, status)
