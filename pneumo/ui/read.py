"""The tab where a radiograph is read, and the API endpoint that answers alike."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pneumo.errors import BundleError, PneumoError
from pneumo.examination import ExaminationRecord
from pneumo.radiograph import MAX_BYTES, MAX_PIXELS, MIN_SIDE
from pneumo.ui import views
from pneumo.ui.components import radiograph_file, typed_json
from pneumo.ui.examples import load_examples
from pneumo.ui.service import ExaminationService

UPLOAD_LIFETIME = 60
"""Seconds after which an upload's temporary file is deleted; it is looked for as often."""

# Examinations of the page and of the API wait in one line.
_QUEUE = "examine"

_CHOOSE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("click", { index: button.dataset.index });
});
"""

# On a phone the answer is below the examples.
_SHOW = """
element.setAttribute("aria-live", "polite");
watch("value", () => {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (window.innerWidth < 700) element.scrollIntoView({ behavior: still ? "auto" : "smooth" });
});
"""


def build_read_tab(service: ExaminationService) -> None:
    """Lay out the tab inside the current Blocks context."""
    examples = load_examples()

    def read(data: bytes, name: str, truth: str = "") -> tuple[str, str]:
        try:
            view = views.examination_view(service.examine(data, name), truth)
        except BundleError as error:
            view = views.refusal_view("The networks could not be loaded.", str(error))
        except PneumoError as error:
            view = views.refusal_view("This file was not read.", str(error))
        return view.verdict, view.cards

    def read_upload(upload: tuple[str, bytes] | None) -> tuple[str, str, None]:
        if upload is None:
            return views.empty_view().verdict, views.empty_view().cards, None
        name, data = upload
        # The upload's place is emptied again, ready for the next one.
        return *read(data, name), None

    def read_example(event: gr.EventData) -> tuple[str, str]:
        example = examples[int(event.index)]
        return read(example.path.read_bytes(), example.file, example.label)

    def examine(radiograph: tuple[str, bytes] | None) -> ExaminationRecord:
        """Read one chest X-ray (JPEG or PNG) with the three networks."""
        if radiograph is None:
            raise gr.Error(
                "A radiograph must be given; received none. Upload a JPEG or PNG file.", print_exception=False
            )
        name, data = radiograph
        try:
            return service.examine(data, name).record()
        except PneumoError as error:
            raise gr.Error(str(error), print_exception=False) from error

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            upload = radiograph_file(label="Chest X-ray: drop, choose or paste", elem_id="upload", height=150)
            gr.HTML(
                f'<p class="side-note">JPEG or PNG, {MIN_SIDE} pixels to {MAX_PIXELS // 10**6} megapixels, at most '
                f"{MAX_BYTES // 2**20} MiB. It is read in memory; the upload's file is deleted within "
                f"{2 * UPLOAD_LIFETIME // 60} minutes. Nothing else of it is kept. Upload nothing that names a "
                "patient.</p>"
            )
            chooser = gr.HTML(views.example_buttons(examples), js_on_load=_CHOOSE, elem_id="examples")
        with gr.Column(scale=4, min_width=300):
            verdict = gr.HTML(views.empty_view().verdict, elem_id="verdict", js_on_load=_SHOW)
            gr.HTML(views.toolbar())
            cards = gr.HTML(views.empty_view().cards, elem_id="cards")

    shared: dict[str, Any] = {"concurrency_id": _QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
    upload.upload(read_upload, upload, [verdict, cards, upload], api_visibility="private", **shared)
    chooser.click(read_example, None, [verdict, cards], api_visibility="private", **shared)

    # Never shown: what a program calls, with the same answer as the page.
    api_input = radiograph_file(label="radiograph", visible=False)
    api_output = typed_json(ExaminationRecord, label="examination", visible=False)
    gr.Button(visible=False).click(examine, api_input, api_output, api_name="examine", **shared)
