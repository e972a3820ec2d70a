"""The page. No numerical work is done here."""

from pneumo.backend import without

# Gradio would import the Model Context Protocol with itself, which takes as long as a quarter of all the rest:
# `pneumo.ui.tools` does it once the page is up.
with without(("mcp",)):
    import gradio  # noqa: F401
