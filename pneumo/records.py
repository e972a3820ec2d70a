"""An examination as JSON: the same for the command line, the API and the page's download."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from pneumo.classifier import JointPrediction, Prediction
from pneumo.dicom_header import Header
from pneumo.evidence import Evidence
from pneumo.gate import Judgement
from pneumo.lungs import Lungs
from pneumo.saliency import Heatmap

if TYPE_CHECKING:
    from pneumo.covering import Covering

_PREDICTED = ("probability", "threshold", "decision")


class PredictionRecord(TypedDict):
    """A `Prediction` as JSON: probability and threshold 0 to 1, decision a class name."""

    probability: float
    threshold: float
    decision: str


class CoveredRecord(PredictionRecord):
    """A `Covering` as JSON: what the network says once the region is covered."""

    region: str
    words: str


class SaliencyRecord(TypedDict):
    """A `Heatmap` as JSON.

    `peak` is a share of the network's fixed scale, null if the map is not finite; what follows is its `Evidence`, null
    where there is none.
    """

    method: str
    target: str
    status: str
    peak: float | None
    share_in_lungs: float | None
    chance: float | None
    zones: dict[str, float] | None
    peak_at: list[float] | None
    peak_zone: str | None
    words: str


class NetworkRecord(PredictionRecord):
    """What one network says, as JSON; `saliency` and `covered` are null where they were not asked for."""

    saliency: SaliencyRecord | None
    covered: CoveredRecord | None


class JointRecord(PredictionRecord):
    """A `JointPrediction` as JSON."""

    uncertain: bool


class HeaderRecord(TypedDict):
    """What a DICOM `Header` says, as JSON: in words of closed lists, "" where it says nothing."""

    modality: str
    body_part: str
    view: str
    age: str


class GateRecord(TypedDict):
    """A `Judgement` as JSON: `turn`, in degrees, and `invert` are what would right the radiograph."""

    other: float
    oddities: list[str]
    turn: int
    invert: bool


class LungsRecord(TypedDict):
    """Where the lungs are, as JSON: `box` is left, top, right, bottom as shares of width and height, or null."""

    found: bool
    reason: str
    share: float
    box: list[float] | None


class AgreementRecord(TypedDict):
    """How many of the networks call pneumonia, as JSON."""

    calling_pneumonia: int
    networks: int
    unanimous: bool


class ExaminationRecord(TypedDict):
    """An `Examination` as JSON.

    `file` is the file's name, of a DICOM file "DICOM" and the start of its SHA-256; `header` is null for other files.
    `operating_point` is the name of one, or "custom"; `together` is null unless all networks of the bundle were
    asked; `lungs` is null if no network asks for them, `gate` if the bundle has none.
    """

    file: str
    operating_point: str
    networks: dict[str, NetworkRecord]
    together: JointRecord | None
    lungs: LungsRecord | None
    header: HeaderRecord | None
    gate: GateRecord | None
    agreement: AgreementRecord
    summary: str
    warnings: list[str]


def csv_columns(networks: Iterable[str]) -> list[str]:
    """Columns of a table of examinations, a row a file."""
    fields = [f"{name}.{field}" for name in (*networks, "together") for field in _PREDICTED]
    return ["file", "operating_point", *fields, "together.uncertain", "calling_pneumonia", "warnings", "error"]


def csv_row(file: str, record: ExaminationRecord) -> dict[str, Any]:
    """An examination as a row of that table."""
    row: dict[str, Any] = {
        "file": file,
        "operating_point": record["operating_point"],
        "calling_pneumonia": record["agreement"]["calling_pneumonia"],
        "warnings": " ".join(record["warnings"]),
    }
    predictions: dict[str, Any] = {**record["networks"], "together": record["together"] or {}}
    for name, entry in predictions.items():
        row |= {f"{name}.{field}": entry[field] for field in (*_PREDICTED, "uncertain") if field in entry}
    return row


def prediction_record(prediction: Prediction) -> PredictionRecord:
    """A prediction as JSON-ready values."""
    return {
        "probability": round(prediction.probability, 6),
        "threshold": round(prediction.threshold, 6),
        "decision": prediction.decision,
    }


def joint_record(together: JointPrediction | None) -> JointRecord | None:
    """What the mean of all networks says, as JSON-ready values."""
    return {**prediction_record(together), "uncertain": together.uncertain} if together else None


def header_record(header: Header | None) -> HeaderRecord | None:
    """What a DICOM header says, as JSON-ready values."""
    if header is None:
        return None
    return {"modality": header.modality, "body_part": header.body_part, "view": header.view, "age": header.age}


def gate_record(judgement: Judgement | None) -> GateRecord | None:
    """What the gate says, as JSON-ready values."""
    if judgement is None:
        return None
    return {
        "other": round(judgement.other, 4),
        "oddities": list(judgement.oddities),
        "turn": judgement.turn,
        "invert": judgement.invert,
    }


def lungs_record(lungs: Lungs | None) -> LungsRecord | None:
    """Where the lungs are, as JSON-ready values."""
    if lungs is None:
        return None
    box = [round(edge, 4) for edge in dataclasses.astuple(lungs.box)] if lungs.found else None
    return {"found": lungs.found, "reason": lungs.reason, "share": round(lungs.share, 4), "box": box}


def saliency_record(heatmap: Heatmap | None, evidence: Evidence | None) -> SaliencyRecord | None:
    """A heatmap and where its heat lies, as JSON-ready values."""
    if heatmap is None:
        return None
    peak = heatmap.peak
    return {
        "method": heatmap.method,
        "target": heatmap.target,
        "status": str(heatmap.status),
        "peak": None if peak is None else round(peak, 6),
        "share_in_lungs": round(evidence.share_in_lungs, 4) if evidence else None,
        "chance": round(evidence.chance, 4) if evidence else None,
        "zones": {name: round(share, 4) for name, share in evidence.zones.items()} if evidence else None,
        "peak_at": [round(place, 4) for place in evidence.peak] if evidence else None,
        "peak_zone": evidence.peak_zone if evidence else None,
        "words": evidence.words if evidence else heatmap.status_words,
    }


def covered_record(covering: Covering | None) -> CoveredRecord | None:
    """What covering a region did, as JSON-ready values."""
    if covering is None:
        return None
    return {**prediction_record(covering.after), "region": covering.region, "words": covering.words}
