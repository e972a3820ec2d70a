"""The tab where a radiograph is read, and the API endpoint that answers alike."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pneumo.bundle import OPERATING_POINTS
from pneumo.errors import BundleError, PneumoError
from pneumo.examination import ExaminationRecord
from pneumo.radiograph import MAX_BYTES, MAX_PIXELS, MIN_SIDE
from pneumo.ui import sessions, views
from pneumo.ui.components import bounded_slider, radiograph_file, typed_json
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

# On a phone the answer is below the examples. The page stays where it is when the same radiograph is decided anew.
_SHOW = """
element.setAttribute("aria-live", "polite");
let shown = "";
watch("value", () => {
  const name = element.querySelector(".radiograph")?.textContent;
  if (name && name === shown) return;
  shown = name;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (window.innerWidth < 700) element.scrollIntoView({ behavior: still ? "auto" : "smooth" });
});
"""


# Gradio's radio buttons have no group with a name.
_NAME_GROUP = """
const row = element.closest("#point");
row.setAttribute("role", "group");
row.setAttribute("aria-label", "Operating point");
"""

Kept = tuple[bytes, str, str]
"""The radiograph on show: its bytes, its name, and what is known of it."""


def build_read_tab(service: ExaminationService) -> None:
    """Lay out the tab inside the current Blocks context."""
    examples = load_examples()

    def read(data: bytes, name: str, truth: str, choice: str, percent: float) -> tuple[str, str, Kept | tuple[()]]:
        # Nothing to be decided anew; None is what a forgotten session has.
        kept: Kept | tuple[()] = ()
        try:
            examination = service.examine(data, name, percent / 100 if choice == "custom" else choice)
            view, kept = views.examination_view(examination, truth), (data, name, truth)
        except BundleError as error:
            view = views.refusal_view("The networks could not be loaded.", str(error))
        except PneumoError as error:
            view = views.refusal_view("This file was not read.", str(error))
        return view.verdict, view.cards, kept

    def read_upload(upload: tuple[str, bytes] | None, choice: str, percent: float) -> tuple:
        if upload is None:
            return views.empty_view().verdict, views.empty_view().cards, (), None
        name, data = upload
        # The upload's place is emptied again, ready for the next one.
        return *read(data, name, "", choice, percent), None

    def read_example(choice: str, percent: float, event: gr.EventData) -> tuple:
        example = examples[int(event.index)]
        return read(example.path.read_bytes(), example.file, example.label, choice, percent)

    def read_again(kept: Kept | tuple[()] | None, verdict: str, choice: str, percent: float) -> tuple:
        if kept:
            return read(*kept, choice, percent)
        if kept == () or not views.is_answer(verdict):
            return gr.skip(), gr.skip(), gr.skip()
        return views.forgotten_view().verdict, views.forgotten_view().cards, None

    def examine(radiograph: tuple[str, bytes] | None, operating_point: str = OPERATING_POINTS[0]) -> ExaminationRecord:
        """Read one chest X-ray (JPEG or PNG) with the three networks, at an operating point: balanced, screening, or
        a number between 0 and 1."""
        if radiograph is None:
            raise gr.Error(
                "A radiograph must be given; received none. Upload a JPEG or PNG file.", print_exception=False
            )
        name, data = radiograph
        try:
            return service.examine(data, name, operating_point).record()
        except PneumoError as error:
            raise gr.Error(str(error), print_exception=False) from error

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            upload = radiograph_file(label="Chest X-ray: drop, choose or paste", elem_id="upload", height=150)
            gr.HTML(
                f'<p class="side-note">JPEG or PNG, {MIN_SIDE} pixels to {MAX_PIXELS // 10**6} megapixels, at most '
                f"{MAX_BYTES // 2**20} MiB. The upload's file is deleted within {2 * UPLOAD_LIFETIME // 60} "
                "minutes. The radiograph stays in the server's memory, for another operating point to be tried, until "
                f"this page is closed or unused for {sessions.LIFETIME // 60} minutes. Nothing else of it is kept. "
                "Upload nothing that names a patient.</p>"
            )
            chooser = gr.HTML(views.example_buttons(examples), js_on_load=_CHOOSE, elem_id="examples")
        with gr.Column(scale=4, min_width=300, elem_id="answer"):
            verdict = gr.HTML(views.empty_view().verdict, elem_id="verdict", js_on_load=_SHOW)
            with gr.Row(elem_id="point"):
                gr.HTML("<span>Operating point</span>", js_on_load=_NAME_GROUP)
                choices = [(name.capitalize(), name) for name in views.POINTS]
                choice = gr.Radio(choices, value=OPERATING_POINTS[0], label="Operating point", container=False)
                percent = bounded_slider(
                    1, 99, value=50, step=1, label="Pneumonia from %", container=False, elem_id="point-percent"
                )
                gr.HTML(views.point_lines(), elem_id="point-lines")
            gr.HTML(views.toolbar())
            cards = gr.HTML(views.empty_view().cards, elem_id="cards")
            gr.HTML(views.reading_notes())
    kept = gr.State()

    shared: dict[str, Any] = {"concurrency_id": _QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
    private: dict[str, Any] = {**shared, "api_visibility": "private"}
    point, shown = [choice, percent], [verdict, cards, kept]
    upload.upload(read_upload, [upload, *point], [*shown, upload], **private)
    chooser.click(read_example, point, shown, **private)
    chosen = [choice.input, percent.change]
    gr.on(chosen, read_again, [kept, verdict, *point], shown, trigger_mode="always_last", **private)

    # Never shown: what a program calls, with the same answer as the page.
    api_input = radiograph_file(label="radiograph", visible=False)
    api_point = gr.Textbox(OPERATING_POINTS[0], label="operating_point", visible=False)
    api_output = typed_json(ExaminationRecord, label="examination", visible=False)
    gr.Button(visible=False).click(examine, [api_input, api_point], api_output, api_name="examine", **shared)
