"""The teaching room: a tab whose rooms are drawn in the browser from the case library, and the files behind it.

Nothing that a visitor does there reaches the server but requests for cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from pneumo.cases import TOUR
from pneumo.errors import BundleError
from pneumo.report import DETAILS, METRICS, SCORES
from pneumo.ui.numbers import ATTRIBUTION
from pneumo.ui.service import ExaminationService

STATIC = Path(__file__).with_name("teach")
"""The modules that draw the rooms."""
TAB = "teaching"
"""The tab's `elem_id`."""
HEAD = f"""
<script>
// A shared link to a room opens the tab. Gradio draws its tabs when it is ready.
if (new URLSearchParams(location.search).has("room")) {{
  const opened = new MutationObserver(() => {{
    const tab = document.getElementById("{TAB}-button");
    if (!tab) return;
    opened.disconnect();
    tab.click();
  }});
  opened.observe(document, {{ childList: true, subtree: true }});
}}
</script>
"""
OUTLINES = (
    "Lung outlines: after the masks of V7 Labs, covid-19-xray-dataset, 2020, CC BY 4.0. Radiographs that were altered "
    "say so."
)
"""What the licence of the masks asks for."""
_FRESH = {"Cache-Control": "no-cache"}
_KEPT = {"Cache-Control": "private, max-age=86400"}
_KINDS = {".json": "application/json", ".jpeg": "image/jpeg"}
_START = """
import(new URL("teaching/static/main.js", document.baseURI).href)
  .then((room) => room.start(element))
  .catch(() => { element.textContent = "The teaching room could not be loaded. Reload the page."; });
"""


def build_teaching_tab() -> None:
    """Lay out the tab inside the current Blocks context."""
    gr.HTML('<p class="side-note">The case library is being opened.</p>', js_on_load=_START)
    gr.HTML(f'<p class="side-note">{ATTRIBUTION} {OUTLINES}</p>')


def teaching_routes(service: ExaminationService) -> list[BaseRoute]:
    """What the tab fetches: its modules, the members of the case library, and the metrics of the test split.

    Parameters
    ----------
    service : ExaminationService
        Knows the bundle; its networks need not be loaded.
    """

    def member(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            content = service.library().member(name)
        except BundleError as error:
            return _refusal(str(error), 503)
        if content is None:
            return _refusal(f"A case must be one of the library; it has no {name!r}. Choose one in the library.", 404)
        kind = Path(name).suffix
        # A radiograph of the data set never changes; what networks made of it does.
        kept = kind == ".jpeg" and not name.startswith(TOUR)
        return Response(content, media_type=_KINDS[kind], headers=_KEPT if kept else _FRESH)

    def metrics(_request: Request) -> Response:
        try:
            measured: dict[str, Any] = service.metrics()
        except BundleError as error:
            return _refusal(str(error), 503)
        return JSONResponse({**measured, "titles": METRICS | DETAILS, "scores": sorted(SCORES)}, headers=_FRESH)

    return [
        Mount("/teaching/static", _FreshFiles(directory=STATIC)),
        Route("/teaching/cases/{name}", member),
        Route("/teaching/metrics.json", metrics),
    ]


class _FreshFiles(StaticFiles):
    """Files that a browser asks for again, so that modules of two releases never meet."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """The file, or that it has not changed."""
        response = super().file_response(*args, **options)
        response.headers.update(_FRESH)
        return response


def _refusal(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)
