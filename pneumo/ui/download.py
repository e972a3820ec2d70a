"""What the page gives to take away of the answer on show: the report, as PDF and PNG, and the record as JSON."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr

from pneumo.examination import Examination
from pneumo.ui.service import ExaminationService

KINDS = {"pdf": "application/pdf", "png": "image/png", "json": "application/json"}
"""Media types of the downloads, by the ending of their files."""
# What is to be taken away comes as a link in itself, so that nothing of it is on the server's disk.
_SAVE = 'watch("value", () => element.querySelector("a")?.click());'


def build_downloads(service: ExaminationService, kept: gr.State, options: dict[str, Any]) -> None:
    """Lay out the buttons inside the current Blocks context.

    Parameters
    ----------
    service : ExaminationService
    kept : gradio.State
        The examination on show, as `pneumo.ui.read.Kept`: nothing of it is asked again.
    options : dict
        Of the buttons' events.
    """

    def download(kind: str) -> Callable[..., str]:
        def make(kept: Any) -> str:
            if not kept:
                gr.Warning("Choose an example, or add a chest X-ray, first.")
                return ""
            examination = kept[0]
            content = _content(kind, examination, service)
            name = f"pneumo-{examination.radiograph.sha256[:12]}.{kind}"
            data = base64.b64encode(content).decode()
            # A value of its own each time: the page acts on a change alone.
            return (
                f'<a data-number="{secrets.token_hex(4)}" download="{name}" href="data:{KINDS[kind]};base64,{data}">'
                f"{name}</a>"
            )

        return make

    with gr.Row(elem_id="downloads"):
        gr.HTML("<span>Download</span>")
        buttons = {
            kind: gr.Button(title, size="sm", elem_id=f"download-{kind}")
            for kind, title in (("pdf", "report as PDF"), ("png", "report as PNG"), ("json", "record as JSON"))
        }
    link = gr.HTML(elem_id="download-link", js_on_load=_SAVE)
    for kind, button in buttons.items():
        button.click(download(kind), kept, link, **options)


def _content(kind: str, examination: Examination, service: ExaminationService) -> bytes:
    if kind == "json":
        return json.dumps(examination.record(), ensure_ascii=False, indent=1).encode()
    # The page is up before the libraries of the report are needed.
    from pneumo.sheet import sheet_pdf, sheet_png

    content = sheet_pdf(examination, service.examiner().bundle)
    return sheet_png(content) if kind == "png" else content
