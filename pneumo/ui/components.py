"""Gradio components of this page that differ from the stock ones in one method."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from pydantic import TypeAdapter

from pneumo.ui import uploads
from pneumo.ui.guard import refuse_addresses

# The methods are set on instances, because Gradio writes a .pyi file beside every module that subclasses a component.


def radiograph_file(**options: Any) -> gr.File:
    """A file input that arrives as (name, bytes), or None, read once and kept by nobody."""
    component = gr.File(**options)
    component.preprocess = _take  # type: ignore[method-assign, assignment]
    return component


def radiograph_files(**options: Any) -> gr.File:
    """An input of one or several files that arrive as a list of (name, bytes), read once and kept by nobody."""
    component = gr.File(file_count="multiple", **options)
    component.preprocess = lambda payload: uploads.take_all(payload or [])  # type: ignore[method-assign, assignment, arg-type, return-value]
    return component


def bounded_slider(minimum: float, maximum: float, value: float, **options: Any) -> gr.Slider:
    """A slider whose typed number is brought into its range, as the field itself does when it is left."""
    component = gr.Slider(minimum, maximum, value=value, **options)
    # An emptied field arrives as None, while the next number is being typed.
    component.preprocess = lambda payload: min(max(payload or minimum, minimum), maximum)  # type: ignore[method-assign]
    return component


def typed_json(kind: Any, **options: Any) -> gr.JSON:
    """A JSON output whose schema, that of a type, the API documents."""
    component = gr.JSON(**options)
    component.api_info = TypeAdapter(kind).json_schema  # type: ignore[method-assign]
    return component


def check_inputs(page: gr.Blocks) -> None:
    """Let a call over HTTP leave out its last arguments, which take their components' values; refuse addresses."""
    validate = page.validate_inputs

    def fill_in(block_fn: Any, inputs: list[Any]) -> None:
        refuse_addresses(inputs)
        inputs += [block.value for block in block_fn.inputs[len(inputs) :]]
        validate(block_fn, inputs)

    page.validate_inputs = fill_in  # type: ignore[method-assign]


def _take(payload: FileData | None) -> tuple[str, bytes] | None:
    return uploads.take(payload) if payload else None
