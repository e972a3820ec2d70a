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

from pneumo.errors import BundleError
from pneumo.report import METRICS
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
_KINDS = {".json": "application/json", ".jpeg": "image/jpeg"}
_START = """
import(new URL("teaching/static/main.js", document.baseURI).href)
  .then((room) => room.start(element))
  .catch(() => { element.textContent = "The teaching room could not be loaded. Reload the page."; });
"""


def build_teaching_tab() -> None:
    """Lay out the tab inside the current Blocks context."""
    gr.HTML('<p class="side-note">The case library is being opened.</p>', js_on_load=_START)


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
        # An address does not tell the library that it belongs to.
        return Response(
            content, media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": "private, max-age=600"}
        )

    def metrics(_request: Request) -> Response:
        try:
            measured: dict[str, Any] = service.metrics()
        except BundleError as error:
            return _refusal(str(error), 503)
        return JSONResponse({**measured, "titles": METRICS})

    return [
        Mount("/teaching/static", StaticFiles(directory=STATIC)),
        Route("/teaching/cases/{name}", member),
        Route("/teaching/metrics.json", metrics),
    ]


def _refusal(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)
