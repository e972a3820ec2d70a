"""The page. No numerical work is done here."""

import functools
import inspect
from typing import Any

import jinja2

from pneumo.backend import replaced, without


def _file_of(item: Any) -> str:
    # Gradio would parse the source of each of its components, for a file of type hints beside it that editors read:
    # more than a third of its import, on every start. Of what comes from no file it does not.
    if getattr(item, "__module__", "").startswith("gradio."):
        raise OSError("no file")
    return _getfile(item)


_getfile = inspect.getfile
# Gradio would also import the Model Context Protocol with itself, which takes as long as a quarter of all the rest:
# `pneumo.ui.tools` does it once the page is up. And it would compile each of 36 templates six times.
with (
    without(("mcp",)),
    replaced(inspect, "getfile", _file_of),
    replaced(jinja2, "Template", functools.cache(jinja2.Template)),
):
    import gradio  # noqa: F401
