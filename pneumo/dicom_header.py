"""What a DICOM header says of a radiograph, in words of closed lists: nothing that was typed into it gets through.

How DICOM is known is here too, and not in `pneumo.dicom`: that imports pydicom, which only a DICOM file needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = (".dcm", ".dicom", ".dic")
"""Usual file name endings; many DICOM files have none: see `is_dicom`."""
_PREAMBLE, _MAGIC = 128, b"DICM"
START = _PREAMBLE + len(_MAGIC)
"""Bytes before the first element of a file, by which `is_dicom` knows it."""
TRAINED_AGE = "1 to 5 years"
"""The age, of `AGES`, of the training population."""
AGES = ((1, "under 1 year"), (6, TRAINED_AGE), (18, "6 to 17 years"), (999, "18 years or more"))
"""Ages in words, each with the first year that is beyond it."""
RADIOGRAPHS = {"CR": "computed radiography", "DX": "digital radiography", "DR": "digital radiography", "RG": "film"}
"""Modalities that are read."""
UNSAID = ("", "OT", "HC", "DG")
"""Modalities that leave open what it is: read, with a warning."""
OTHERS = {
    "BI": "a picture of biomagnetism",
    "CT": "a CT",
    "DOC": "a document",
    "ECG": "an electrocardiogram",
    "ES": "an endoscopy",
    "GM": "a micrograph",
    "IO": "an X-ray of the teeth",
    "IVUS": "an ultrasound of a vessel",
    "KO": "a selection of images",
    "LS": "a surface scan",
    "MG": "a mammogram",
    "MR": "an MRI",
    "NM": "a nuclear medicine scan",
    "OCT": "an optical coherence tomogram",
    "OP": "a photograph of an eye",
    "OPT": "a tomogram of an eye",
    "PR": "a presentation state",
    "PT": "a PET",
    "PX": "a panoramic X-ray of the jaws",
    "RF": "a fluoroscopy",
    "RTDOSE": "a radiotherapy dose",
    "RTIMAGE": "a radiotherapy image",
    "RTPLAN": "a radiotherapy plan",
    "RTSTRUCT": "a set of radiotherapy contours",
    "SEG": "a segmentation",
    "SM": "a microscope slide",
    "SR": "a report",
    "US": "an ultrasound",
    "XA": "an angiogram",
    "XC": "a photograph",
}
"""Modalities that are refused, in words."""
CHESTS = ("CHEST", "THORAX", "TORAX", "LUNG", "BABYGRAM", "WHOLEBODY", "WHOLE BODY")
"""What a body part must contain to be a chest."""
BODY_PARTS = {
    "ABDOMEN": "the abdomen",
    "ANKLE": "an ankle",
    "ARM": "an arm",
    "BREAST": "a breast",
    "CALCANEUS": "a heel",
    "CERVICALSPINE": "the neck's spine",
    "CLAVICLE": "a collarbone",
    "COCCYX": "the tailbone",
    "CSPINE": "the neck's spine",
    "ELBOW": "an elbow",
    "EXTREMITY": "a limb",
    "FEMUR": "a thigh",
    "FINGER": "a finger",
    "FOOT": "a foot",
    "FOREARM": "a forearm",
    "HAND": "a hand",
    "HEAD": "the head",
    "HIP": "a hip",
    "HUMERUS": "an upper arm",
    "JAW": "the jaws",
    "KNEE": "a knee",
    "LEG": "a leg",
    "LSPINE": "the lower spine",
    "LUMBARSPINE": "the lower spine",
    "MANDIBLE": "the jaws",
    "NECK": "the neck",
    "PATELLA": "a knee",
    "PELVIS": "the pelvis",
    "RIB": "ribs",
    "SCAPULA": "a shoulder",
    "SHOULDER": "a shoulder",
    "SKULL": "the skull",
    "SPINE": "the spine",
    "SSPINE": "the sacrum",
    "STERNUM": "the breastbone",
    "TEETH": "teeth",
    "THUMB": "a thumb",
    "TIBIA": "a leg",
    "TOE": "a toe",
    "TSPINE": "the spine",
    "WRIST": "a wrist",
}
"""Other body parts, by how their terms begin, in words."""
VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "left lateral",
    "RL": "right lateral",
    "LAT": "lateral",
    "LATERAL": "lateral",
    "LLD": "left lateral decubitus",
    "RLD": "right lateral decubitus",
    "LLO": "oblique",
    "RLO": "oblique",
    "LAO": "oblique",
    "RAO": "oblique",
    "LPO": "oblique",
    "RPO": "oblique",
}
"""Views by their DICOM terms, in words."""
# How the codes of other views are named.
_MEANINGS = ("decubitus", "oblique", "lateral")
_UNNAMED = "a part of the body other than the chest"
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


class DicomFault(ValueError):
    """Raised when a DICOM file cannot be read; its text is a predicate, and what to do: "is ... Do ..."."""


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these bytes, at least `START`, is DICOM."""
    return start[_PREAMBLE:START] == _MAGIC


@dataclass(frozen=True, slots=True)
class Header:
    """What a DICOM header says; each of it "" where it says nothing, all of it in words of this module.

    Attributes
    ----------
    modality : str
        A key of `RADIOGRAPHS` or `OTHERS`, or "other".
    body_part : str
        "chest", or words of `BODY_PARTS`.
    view : str
        A value of `VIEWS`, or "decubitus".
    age : str
        Words of `AGES`.
    raw : bool
        Whether the detector's values are still to be processed for viewing.
    burned_in : bool
        Whether writing in the picture may identify the patient.
    """

    modality: str = ""
    body_part: str = ""
    view: str = ""
    age: str = ""
    raw: bool = False
    burned_in: bool = False

    @property
    def refusal(self) -> str:
        """What it is instead of a chest radiograph, in words; "" if it may be one."""
        if self.modality in OTHERS:
            return OTHERS[self.modality]
        if self.modality == "other":
            return "of a modality other than CR and DX"
        if self.body_part not in ("", "chest"):
            return f"a radiograph of {self.body_part}"
        return ""

    @property
    def is_chest_radiograph(self) -> bool:
        """Whether it says that this is a radiograph, and of the chest."""
        return self.modality in RADIOGRAPHS and self.body_part == "chest"

    @property
    def words(self) -> str:
        """Modality, body part, view and age in one line."""
        said = {"modality": self.modality, "body part": self.body_part, "view": self.view, "age": self.age}
        return ", ".join(f"{name} {value or 'not said'}" for name, value in said.items())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of it before believing an answer, one sentence each."""
        found = []
        if self.view not in ("", "PA", "AP"):
            article = "an" if self.view[0] in "aeiou" else "a"
            found.append(
                f"By its header this is {article} {self.view} view. The networks saw frontal views (AP) alone: "
                "do not rely on this answer."
            )
        if self.age not in ("", TRAINED_AGE):
            found.append(
                "The networks saw children of one to five years alone; by its header this patient's age is "
                f"{self.age}. What their answers are worth at other ages is not known."
            )
        silent = [name for name, value in (("modality", self.modality), ("body part", self.body_part)) if not value]
        if silent:
            found.append(f"Its header does not say the {' and the '.join(silent)}: make sure that it shows a chest.")
        if self.raw:
            found.append("By its header these are raw values, not processed for viewing: its contrast may mislead.")
        if self.burned_in:
            found.append("By its header writing is burned into this picture: it may name the patient.")
        return tuple(found)


def read_header(dataset: Dataset) -> Header:
    """Read the header of a DICOM dataset; what is in none of the lists is not repeated."""
    modality = _term(dataset, "Modality")
    if modality in UNSAID:
        modality = ""
    elif modality not in RADIOGRAPHS and modality not in OTHERS:
        modality = "other"
    return Header(
        modality,
        _body_part(dataset),
        _view(dataset),
        _age(dataset),
        raw=_term(dataset, "PresentationIntentType") == "FOR PROCESSING",
        burned_in=_term(dataset, "BurnedInAnnotation") == "YES",
    )


def _term(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()


def _meaning(dataset: Dataset, keyword: str) -> str:
    """The meaning of the first code of a sequence."""
    items = list(dataset.get(keyword) or ())
    return _term(items[0], "CodeMeaning") if items else ""


def _body_part(dataset: Dataset) -> str:
    term = _term(dataset, "BodyPartExamined") or _meaning(dataset, "AnatomicRegionSequence")
    if not term:
        return ""
    if any(chest in term for chest in CHESTS):
        return "chest"
    compact = term.replace(" ", "").replace("_", "").replace("-", "")
    # The longest first: a forearm is no arm.
    named = sorted((part for part in BODY_PARTS if compact.startswith(part)), key=len)
    return BODY_PARTS[named[-1]] if named else _UNNAMED


def _view(dataset: Dataset) -> str:
    term = _term(dataset, "ViewPosition")
    if term in VIEWS:
        return VIEWS[term]
    meaning = f"{term} {_meaning(dataset, 'ViewCodeSequence')}".lower()
    for word in _MEANINGS:
        if word in meaning:
            return word
    # Where rows and columns run: on a lateral view to the patient's front or back.
    orientation = list(dataset.get("PatientOrientation") or ())
    return "lateral" if orientation and str(orientation[0]).strip().upper()[:1] in ("A", "P") else ""


def _age(dataset: Dataset) -> str:
    term = _term(dataset, "PatientAge")
    if len(term) != 4 or not term[:3].isdecimal() or term[3] not in _YEARS or term == "000Y":
        return ""
    years = int(term[:3]) * _YEARS[term[3]]
    return next(words for beyond, words in AGES if years < beyond or beyond == AGES[-1][0])
