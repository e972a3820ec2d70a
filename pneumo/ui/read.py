"""The tab where a radiograph is read, and the API endpoint that answers alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from pneumo.bundle import OPERATING_POINTS
from pneumo.cover import BRUSH, painted
from pneumo.covering import HOTTEST
from pneumo.errors import BundleError, PneumoError
from pneumo.examination import DECIDED, Examination, radiograph_of
from pneumo.intake import is_batch, sources_of_uploads
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.radiograph import KINDS, MAX_BYTES, MAX_PIXELS, MIN_SIDE, Radiograph, corrected, read_radiograph
from pneumo.records import ExaminationRecord
from pneumo.ui import batch, sessions, views
from pneumo.ui.components import bounded_slider, radiograph_file, radiograph_files, typed_json
from pneumo.ui.download import build_downloads
from pneumo.ui.examples import load_examples
from pneumo.ui.service import ExaminationService
from pneumo.ui.tools import build_tool, choice_inputs, record_of
from pneumo.zoo import CLASS_NAMES

UPLOAD_LIFETIME = 60
"""Seconds after which an upload's temporary file is deleted if it was never read; it is looked for as often."""

CONCURRENCY = 2
"""Calls of programs that are answered at once, chosen by `benchmarks load`: one is read while another is examined."""
# The page's examinations wait in a line of their own, so that a visitor's answers keep their order.
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
element.addEventListener("click", (event) => {
  const button = event.target.closest("button.correct");
  if (button) trigger("click", { turn: button.dataset.turn, invert: button.dataset.invert });
});
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

# A stroke over a radiograph covers what it passes. The strokes are kept here until the page shows none covered.
_PAINT = f"""
let strokes = [], film = null, line = null;
const painting = () => document.documentElement.classList.contains("painting");
const place = (event) => {{
  const frame = film.getBoundingClientRect();
  return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
}};
element.addEventListener("pointerdown", (event) => {{
  film = event.target.closest("button.film");
  if (!film || !painting()) return;
  event.preventDefault();
  film.setPointerCapture(event.pointerId);
  strokes.push([place(event)]);
  line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("class", "drawing stroke");
  line.setAttribute("viewBox", "0 0 1 1");
  line.setAttribute("preserveAspectRatio", "none");
  line.innerHTML = '<polyline/>';
  line.firstChild.style.strokeWidth = film.clientWidth * {BRUSH} + "px";
  film.append(line);
}});
element.addEventListener("pointermove", (event) => {{
  if (!line) return;
  strokes.at(-1).push(place(event).map((share) => Math.round(share * 1000) / 1000));
  line.firstChild.setAttribute("points", strokes.at(-1).join(" "));
}});
const end = () => {{
  if (!line) return;
  line = null;
  trigger("click", {{ strokes: JSON.stringify(strokes) }});
}};
element.addEventListener("pointerup", end);
element.addEventListener("pointercancel", end);
watch("value", () => {{ if (!element.querySelector(".covered")) strokes = []; }});
document.addEventListener("stroke-refused", () => strokes.pop());
"""

_REFUSED = 'watch("value", () => document.dispatchEvent(new Event("stroke-refused")));'

Kept = tuple[Examination, str, str]
"""The examination on show, what is known of its radiograph, and what of it is covered: one of `pneumo.covering.COVERS`,
or strokes as JSON. `pneumo.reading` says what the examination holds; of a DICOM file nothing else is kept."""


def build_read_tab(service: ExaminationService) -> None:
    """Lay out the tab inside the current Blocks context."""
    examples = load_examples()

    def read(
        source: Radiograph | Examination, truth: str, cover: str, *chosen: Any
    ) -> tuple[str, str, Kept | tuple[()]]:
        # Nothing to be decided anew; None is what a forgotten session has.
        left: Kept | tuple[()] = ()
        try:
            region = strokes_region(radiograph_of(source), cover) if cover.startswith("[") else cover
            examination = service.examine(source, cover=region, **choices_of(*chosen))
            view, left = views.examination_view(examination, truth), (examination, truth, cover)
            if cover and not examination.coverings:
                gr.Warning("Nothing was covered: no lungs were found, or no map has heat in them.")
        except BundleError as error:
            view = views.refusal_view("The networks could not be loaded.", str(error))
        except PneumoError as error:
            view = not_read(error)
        return view.verdict, view.cards, left

    def read_upload(uploads: list[tuple[str, bytes]], *chosen: Any) -> Iterator[tuple]:
        # The upload's place is emptied again, ready for the next one.
        if is_batch(uploads):
            for view in read_batch(uploads, *chosen):
                yield view.verdict, view.cards, (), "", None
            return
        try:
            for name, data in uploads:
                yield *read(read_radiograph(data, name), "", "", *chosen), "", None
        except PneumoError as error:
            yield not_read(error).verdict, not_read(error).cards, (), "", None

    def read_batch(uploads: list[tuple[str, bytes]], *chosen: Any) -> Iterator[views.View]:
        choices = choices_of(*chosen)
        point = choices["operating_point"]
        total = sum(1 for _ in sources_of_uploads(uploads))

        def examine(radiograph: Radiograph) -> Examination:
            return service.examine(radiograph, **choices)

        yield batch.batch_view([], total, point)
        try:
            for rows in batch.examine_all(sources_of_uploads(uploads), examine):
                yield batch.batch_view(rows, total, point)
        except BundleError as error:
            yield views.refusal_view("The networks could not be loaded.", str(error))

    def read_example(event: gr.EventData, *chosen: Any) -> tuple:
        example = examples[int(event.index)]
        return *read(read_radiograph(example.path), example.label, "", *chosen), ""

    def read_again(kept: Kept | tuple[()] | None, verdict: str, *chosen: Any) -> tuple:
        if kept:
            return read(*kept, *chosen)
        if kept == () or not views.is_answer(verdict):
            return gr.skip(), gr.skip(), gr.skip()
        return views.forgotten_view().verdict, views.forgotten_view().cards, None

    def correct(event: gr.EventData, kept: Kept | tuple[()] | None, verdict: str, *chosen: Any) -> tuple:
        if not kept:
            return read_again(kept, verdict, *chosen)
        examination, truth, _ = kept
        # What was covered lies elsewhere now.
        return read(corrected(examination.radiograph, int(event.turn), event.invert == "1"), truth, "", *chosen)

    def cover(region: str) -> Any:
        def read_covered(kept: Kept | tuple[()] | None, verdict: str, *chosen: Any) -> tuple:
            return read_again((*kept[:2], region) if kept else kept, verdict, *chosen)

        return read_covered

    def paint(event: gr.EventData, kept: Kept | tuple[()] | None, verdict: str, *chosen: Any) -> tuple:
        strokes = str(event.strokes)
        if kept:
            try:
                strokes_region(kept[0].radiograph, strokes)
            except PneumoError as error:
                # What was painted is refused; the radiograph and its answer stay.
                gr.Warning(str(error))
                return gr.skip(), gr.skip(), gr.skip(), strokes
        return *cover(strokes)(kept, verdict, *chosen), gr.skip()

    def check(kept: Kept | tuple[()] | None, *chosen: Any) -> str:
        if not kept:
            return '<p class="side-note">Choose an example, or add a chest X-ray, first.</p>'
        try:
            return views.sanity_view(service.sanity(kept[0], **choices_of(*chosen)), kept[0].radiograph)
        except PneumoError as error:
            return f'<p class="side-note">{escape(str(error))}</p>'

    def examine_file(
        radiograph: tuple[str, bytes] | None,
        operating_point: str = OPERATING_POINTS[0],
        method: str = DEFAULT_METHOD,
        target: str = DECIDED,
        cover: str = "",
        turn: float = 0,
        invert: bool = False,
    ) -> ExaminationRecord:
        """Read one chest X-ray (JPEG, PNG or DICOM) with the three networks, at an operating point: balanced,
        screening, or a number between 0 and 1. Each decision, or the class named as target, is explained by a saliency
        method; with cover, the networks are asked again with the hottest zone of each map, or a lung zone, covered.
        With turn (90, 180 or 270 degrees, clockwise) and invert it is righted before it is read. What is taken for no
        chest radiograph is refused."""
        if radiograph is None:
            raise gr.Error("A radiograph must be given; received none. Upload a file of it.", print_exception=False)
        name, data = radiograph
        choices = {"operating_point": operating_point, "method": method, "target": target, "cover": cover}
        return record_of(service, data, name, turn, invert, **choices)

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            upload = radiograph_files(label="Chest X-rays: drop, choose or paste", elem_id="upload", height=150)
            gr.HTML(
                f'<p class="side-note">{KINDS}, one or several, or a ZIP archive of them; {MIN_SIDE} pixels to '
                f"{MAX_PIXELS // 10**6} megapixels, at most "
                f"{MAX_BYTES // 2**20} MiB. The upload's file is deleted once it is read; of a DICOM file only the "
                "picture and its kind are kept. The radiograph stays in the server's memory, with what the networks "
                "said of it, for another operating point to be tried, until this page is closed or unused for "
                f"{sessions.LIFETIME // 60} minutes. "
                "Nothing else of it is kept. Upload no picture in which a patient's name is written.</p>"
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
            with gr.Row(elem_id="explanation"):
                gr.HTML("<span>Explained by</span>")
                titles = [(design.title, name) for name, design in METHODS.items()]
                method = gr.Dropdown(
                    titles, value=DEFAULT_METHOD, label="Saliency method", container=False, elem_id="method"
                )
                gr.HTML("<span>for</span>")
                classes = [("its decision", DECIDED), *((name, name) for name in CLASS_NAMES)]
                target = gr.Dropdown(classes, value=DECIDED, label="Class explained", container=False, elem_id="target")
                gr.HTML("<span>Cover</span>")
                hottest = gr.Button("the hottest zone", size="sm", elem_id="cover")
                gr.HTML(views.paint_switch())
                uncover = gr.Button("Uncover", size="sm", elem_id="uncover")
            gr.HTML(views.toolbar())
            cards = gr.HTML(views.empty_view().cards, elem_id="cards", js_on_load=_PAINT + batch.SORT)
            downloads = gr.Column(min_width=0)
            gr.HTML(views.reading_notes())
            with gr.Accordion("Sanity check: would networks with random weights show the same?", open=False):
                compare = gr.Button("Explain this radiograph by untrained networks", size="sm", elem_id="compare")
                untrained = gr.HTML(elem_id="sanity")
    kept = gr.State()
    # The strokes of which the last was refused.
    refused = gr.HTML(elem_id="refused-stroke", js_on_load=_REFUSED)

    private: dict[str, Any] = {"concurrency_id": _QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
    private["api_visibility"] = "private"
    shared: dict[str, Any] = {"concurrency_id": "api", "concurrency_limit": CONCURRENCY}
    chosen, shown = [choice, percent, method, target], [verdict, cards, kept]
    # Several files take long; examinations of others come in between.
    aside = {**private, "concurrency_id": "uploads", "concurrency_limit": 4}
    with downloads:
        build_downloads(service, kept, private)
    upload.upload(read_upload, [upload, *chosen], [*shown, untrained, upload], **aside)
    chooser.click(read_example, chosen, [*shown, untrained], **private)
    again, latest = [kept, verdict, *chosen], {**private, "trigger_mode": "always_last"}
    changes = [choice.input, percent.change, method.input, target.input]
    gr.on(changes, read_again, again, shown, **latest)
    verdict.click(correct, again, shown, **latest)
    hottest.click(cover(HOTTEST), again, shown, **latest)
    uncover.click(cover(""), again, shown, **latest)
    cards.click(paint, again, [*shown, refused], **latest)
    compare.click(check, [kept, *chosen], untrained, **private)
    # What is chosen anew is not what the networks with random weights were asked.
    gr.on(changes, lambda: "", None, untrained, **latest)

    # Never shown: what a program calls, with the same answer as the page.
    api_input = radiograph_file(label="radiograph", visible=False)
    api_output = typed_json(ExaminationRecord, label="examination", visible=False)
    gr.Button(visible=False).click(
        examine_file, [api_input, *choice_inputs()], api_output, api_name="examine", **shared
    )
    build_tool(service, shared)


def not_read(error: PneumoError) -> views.View:
    """Why a file was refused."""
    return views.refusal_view("This file was not read.", str(error))


def choices_of(choice: str, percent: float, method: str, target: str) -> dict[str, Any]:
    """What is chosen on the page, as `ExaminationService` takes it."""
    return {"operating_point": percent / 100 if choice == "custom" else choice, "method": method, "target": target}


def strokes_region(radiograph: Radiograph, strokes: str) -> np.ndarray:
    """The region that strokes, as the page sends them, cover on a radiograph.

    Raises
    ------
    UnknownNameError
        If they are no strokes.
    """
    try:
        points = json.loads(strokes)
    except json.JSONDecodeError:
        points = None
    return painted(points, BRUSH, radiograph.width / radiograph.height)
