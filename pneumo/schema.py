"""The JSON Schema of what `predict --format json` prints, the API returns and the page downloads."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from pneumo.dicom_header import AGES, BODY_PARTS, OTHERS, RADIOGRAPHS, VIEWS
from pneumo.gate import ODDITIES
from pneumo.lungs import ZONES
from pneumo.methods import METHODS
from pneumo.radiograph import TURNS
from pneumo.records import ExaminationRecord
from pneumo.saliency import HeatStatus
from pneumo.zoo import CLASS_NAMES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The version of JSON Schema."""
_SHARES = ("probability", "threshold", "share", "share_in_lungs", "chance", "other")


class RefusalRecord(TypedDict):
    """A file that was not answered, as JSON: what it is called, and why."""

    file: str
    error: str


def examination_schema() -> dict[str, Any]:
    """The schema of one object: an examination, or a refusal."""
    schema = TypeAdapter(ExaminationRecord | RefusalRecord).json_schema()
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
        for name, field in definition["properties"].items():
            for plain in field.get("anyOf", [field]):
                _narrow(name, plain)
    header = schema["$defs"]["HeaderRecord"]["properties"]
    header["modality"]["enum"] = ["", *RADIOGRAPHS, *OTHERS, "other"]
    header["body_part"]["enum"] = ["", "chest", *sorted(set(BODY_PARTS.values()))]
    header["view"]["enum"] = ["", *dict.fromkeys(VIEWS.values()), "decubitus"]
    header["age"]["enum"] = ["", *(words for _, words in AGES)]
    gate = schema["$defs"]["GateRecord"]["properties"]
    gate["oddities"]["items"]["enum"] = list(ODDITIES)
    gate["turn"]["enum"] = list(TURNS)
    return {"$schema": DIALECT, "title": "What pneumo says of one file", **schema}


def _narrow(name: str, field: dict[str, Any]) -> None:
    """Add what a type alone does not say."""
    if name in _SHARES and field.get("type") == "number":
        field |= {"minimum": 0, "maximum": 1}
    elif name == "zones" and field.get("type") == "object":
        shares = {zone: {"type": "number", "minimum": 0, "maximum": 1} for zone in ZONES}
        field |= {"properties": shares, "required": list(ZONES), "additionalProperties": False}
    elif name in ("box", "peak_at") and field.get("type") == "array":
        length = {"box": 4, "peak_at": 2}[name]
        field |= {"minItems": length, "maxItems": length}
    choices = {
        "decision": CLASS_NAMES,
        "target": CLASS_NAMES,
        "method": METHODS,
        "peak_zone": ("", *ZONES),
        "status": [str(status) for status in HeatStatus],
    }
    if name in choices and field.get("type") == "string":
        field["enum"] = list(choices[name])
