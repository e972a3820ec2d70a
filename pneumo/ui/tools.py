"""`examine` as a tool for language models, by the MCP server that Gradio has, loaded once the page is up."""

from __future__ import annotations

import asyncio
import base64
import binascii
import importlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import gradio as gr
import gradio.mcp

from pneumo.bundle import OPERATING_POINTS
from pneumo.errors import BundleError, PneumoError
from pneumo.examination import DECIDED
from pneumo.methods import DEFAULT_METHOD
from pneumo.radiograph import corrected, read_radiograph
from pneumo.records import ExaminationRecord
from pneumo.ui.service import ExaminationService

PATH = "/gradio_api/mcp"
"""Where the MCP server answers."""
NAME = "examine"
"""Of the only tool: files are no inputs of it, so that nothing is fetched for it or left on the disk."""
ENDPOINT = "examine_base64"
"""The endpoint behind it, that programs can call as well."""
_LOG = logging.getLogger(__name__)


def build_tool(service: ExaminationService, options: dict[str, Any]) -> None:
    """Add the endpoint to the current Blocks context; `options` are those of its event."""

    def examine(
        radiograph: str,
        operating_point: str = OPERATING_POINTS[0],
        method: str = DEFAULT_METHOD,
        target: str = DECIDED,
        cover: str = "",
        turn: float = 0,
        invert: bool = False,
    ) -> str:
        """Read one frontal chest X-ray of a child with three networks that look for pneumonia, and say where each
        looked. For research and teaching, not for diagnosis.

        Args:
            radiograph: The content of a JPEG, PNG or DICOM file in base64, or as a data: URI. No address is fetched.
            operating_point: balanced, screening, or a number between 0 and 1 from which on pneumonia is called.
            method: How the decisions are explained: the name of a saliency method.
            target: The class that is explained: decided (by each network), NORMAL or PNEUMONIA.
            cover: A lung zone to cover and ask again, such as left_lower; hottest for that of each map; or nothing.
            turn: Degrees to turn it by before it is read, clockwise: 0, 90, 180 or 270.
            invert: Whether to exchange black and white before it is read.

        Returns:
            The examination as JSON: probabilities, decisions, where the evidence lies, and warnings.
        """
        choices = {"operating_point": operating_point, "method": method, "target": target, "cover": cover}
        record = record_of(service, decoded(radiograph), "radiograph", turn, invert, **choices)
        return json.dumps(record, ensure_ascii=False)

    inputs = [gr.Textbox(label="radiograph", visible=False), *choice_inputs()]
    output = gr.Textbox(label="examination", visible=False)
    gr.Button(visible=False).click(examine, inputs, output, api_name=ENDPOINT, **options)


def record_of(
    service: ExaminationService, data: bytes, name: str, turn: float, invert: bool, **choices: str
) -> ExaminationRecord:
    """What a program is answered: the record of a file, righted first, by the choices of `ExaminationService.examine`.

    Raises
    ------
    gradio.Error
        With the words of the refusal.
    """
    try:
        return service.examine(corrected(read_radiograph(data, name), int(turn), invert), **choices).record()
    except PneumoError as error:
        raise gr.Error(str(error), print_exception=False) from error


def choice_inputs() -> list[Any]:
    """Inputs, not shown, of what a program can choose: operating point, method, target, cover, turn and invert."""
    defaults = {"operating_point": OPERATING_POINTS[0], "method": DEFAULT_METHOD, "target": DECIDED, "cover": ""}
    return [
        *(gr.Textbox(value, label=name, visible=False) for name, value in defaults.items()),
        gr.Number(0, label="turn", visible=False, precision=0),
        gr.Checkbox(False, label="invert", visible=False),
    ]


def decoded(text: str) -> bytes:
    """The bytes of base64, or of a data: URI of it.

    Raises
    ------
    gradio.Error
        If it is neither.
    """
    content = str(text)
    if content.startswith("data:"):
        content = content.partition(",")[2]
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise gr.Error(
            "A radiograph must be the base64 of a file; what came is not. Send the file's content, no address or path.",
            print_exception=False,
        ) from error


def serving(service: ExaminationService) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The lifespan during which the tool is served, from when the networks are loaded."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(_serve(app, service))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan


async def _serve(app: Any, service: ExaminationService) -> None:
    with suppress(BundleError):
        await service.wait()
    try:
        page = app.get_blocks()
        server = await asyncio.to_thread(_load, page)
        server.launch_mcp_on_sse(app, PATH, page.root_path)
        async with server.lifespan(app):
            await asyncio.Event().wait()
    except Exception:  # whatever it was: the page does without the tool, and the log must say why
        _LOG.exception("The MCP server could not be started.")


def _load(page: gr.Blocks) -> Any:
    # It was imported while `mcp` was hidden.
    server = importlib.reload(gradio.mcp).GradioMCPServer(page)
    server._local_url = page.local_url
    server.tool_to_endpoint = {
        name: endpoint for name, endpoint in server.tool_to_endpoint.items() if endpoint == f"/{ENDPOINT}"
    }
    return server
