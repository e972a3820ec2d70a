"""From the bytes of a DICOM file to gray values and what its header says. Nothing that names a patient is read.

Of its data set's elements only those of `TAGS` are kept: no name, number, date, place, description or UID of an
instance.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pneumo import codecs
from pneumo.dicom_header import START, DicomFault, Header, read_header

MAX_INFLATED = 128 * 2**20
"""Largest content of a deflated file, in bytes."""
TAGS = (
    "AnatomicRegionSequence",
    "BitsAllocated",
    "BitsStored",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "Columns",
    "HighBit",
    "ImagerPixelSpacing",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PatientAge",
    "PatientOrientation",
    "PhotometricInterpretation",
    "PixelAspectRatio",
    "PixelData",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "PresentationIntentType",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "ViewCodeSequence",
    "ViewPosition",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
)
"""Keywords of all elements that are kept."""
GRAYS = ("MONOCHROME1", "MONOCHROME2")
"""Photometric interpretations that are read: low values are white, or black."""
NO_WINDOW = "Its DICOM header names no window; its darkest value is shown black and its brightest white."
"""A note on how values became gray."""
BLANK_WINDOW = (
    "The window that its DICOM header names shows nothing; its darkest value is shown black, its brightest white."
)
"""Another."""
_MAX_READS = 200_000
_PIECE = 2**14
_MAX_STRETCH = 4
# pydicom logs values that break a rule, whatever they are.
logging.getLogger("pydicom").disabled = True


@dataclass(frozen=True, slots=True)
class DicomImage:
    """One DICOM file with a single gray image, not yet decoded.

    Attributes
    ----------
    header : Header
    width, height : int
        In pixels as stored.
    """

    header: Header
    width: int
    height: int
    _dataset: Dataset
    _syntax: UID

    def pixels(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Decode the gray values for viewing.

        Returns
        -------
        numpy.ndarray of uint8, shape (height, width)
            With square pixels.
        tuple of str
            What a reader should know about the conversion.

        Raises
        ------
        DicomFault
            If they do not decode, or the header contradicts itself.
        """
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            try:
                stored = _stored(self._dataset, self._syntax)
                table, notes = _grays(self._dataset, stored)
                shown = np.empty(stored.shape, np.uint8)
                for rows in _strips(stored):
                    shown[rows] = table[stored[rows]]
                return _squared(self._dataset, shown), notes
            except DicomFault:
                raise
            # As in `open_dicom`: pydicom converts values when they are asked for, and raises what its parsers do.
            except Exception:
                raise _damaged() from None


def open_dicom(data: bytes) -> DicomImage:
    """Read the header of a DICOM file, and refuse what is no single gray image of 8 to 16 bits.

    Parameters
    ----------
    data : bytes
        Of which `pneumo.dicom_header.is_dicom` is true.

    Raises
    ------
    DicomFault
        If it is damaged, holds no image or several, is not gray, or is compressed in a way that is not read.
    """
    # What pydicom warns of is a header's value that breaks a rule; what of it matters is checked here.
    with warnings.catch_warnings(action="ignore"):
        try:
            _check_inflated(data)
            dataset = dcmread(_Bounded(data), specific_tags=list(TAGS))
            syntax = UID(dataset.file_meta.TransferSyntaxUID)
            header = read_header(dataset)
            # What it shows is of more use to know than what its pixels are like.
            if not header.refusal:
                _check_image(dataset, syntax)
            return DicomImage(header, int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0), dataset, syntax)
        except DicomFault:
            raise
        # Whatever its values make pydicom raise; the text of it may hold any of the file, and is dropped.
        except Exception:
            raise _damaged() from None


class _Bounded(io.BytesIO):
    """Bytes that can be read from so often: a file of millions of elements takes minutes to parse."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise DicomFault("has more elements than an image has. Export it again.")
        return super().read(size)


def _damaged() -> DicomFault:
    return DicomFault("is truncated or damaged. Copy or export it again.")


def _check_inflated(data: bytes) -> None:
    """Refuse a deflated file whose content is too large before pydicom inflates all of it."""
    source = _Bounded(data)
    source.seek(START)
    meta = read_dataset(source, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (piece := source.read(_PIECE)):
        # A piece grows to a thousand of its size at most.
        size += len(inflater.decompress(piece))
        if size > MAX_INFLATED:
            raise DicomFault(f"holds more than {MAX_INFLATED // 2**20} MiB. Export it at a lower resolution.")


def _check_image(dataset: Dataset, syntax: UID) -> None:
    if "PixelData" not in dataset:
        raise DicomFault("holds no image, or is cut off. Export the image itself.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DicomFault(f"is a multi-frame image of {frames} frames. Export the one frame to be read.")
    if dataset.PhotometricInterpretation not in GRAYS or dataset.get("SamplesPerPixel", 1) != 1:
        raise DicomFault(f"is in colour, not {' or '.join(GRAYS)}. Export the radiograph as it was taken.")
    if dataset.BitsAllocated not in (8, 16) or not 8 <= dataset.BitsStored <= dataset.BitsAllocated:
        raise DicomFault(
            f"stores {int(dataset.BitsStored)} of {int(dataset.BitsAllocated)} bits a value; 8 to 16 are read. "
            "Export the radiograph as it was taken."
        )
    if syntax.is_compressed and not syntax.is_deflated and not codecs.can_decode(syntax):
        name = syntax.name if syntax.name != syntax and not syntax.is_private else "an unknown method"
        raise DicomFault(
            f"is compressed by {name}, which is not read; JPEG, JPEG-LS, JPEG 2000 and RLE are. Export it uncompressed."
        )


def _stored(dataset: Dataset, syntax: UID) -> np.ndarray:
    """The stored values without what may lie in unused bits; a negative one as its two's complement."""
    bits, high = int(dataset.BitsStored), int(dataset.get("HighBit", dataset.BitsStored - 1))
    if syntax.is_encapsulated:
        layout = codecs.Layout(int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated))
        values = codecs.decode(syntax, get_frame(dataset.PixelData, 0, number_of_frames=1), layout)
        high = bits - 1
        # Some codes say themselves that they hold fewer bits than the header.
        values = values if bits <= 8 * values.itemsize else values.astype(np.uint16)
    else:
        values = pixel_array(dataset, raw=True, correct_unused_bits=False)
        values = values.astype(values.dtype.newbyteorder("="), copy=False).view(f"u{values.dtype.itemsize}")
    if not bits - 1 <= high < dataset.BitsAllocated:
        raise DicomFault("names bits that its values do not have. Export it again.")
    return (values >> (high + 1 - bits)) & np.array(2**bits - 1, values.dtype)


def _grays(dataset: Dataset, stored: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Gray, 0 to 255, of each value that can be stored, and notes on how it was found."""
    levels = np.arange(2 ** int(dataset.BitsStored))
    if dataset.get("PixelRepresentation") == 1:
        levels[len(levels) // 2 :] -= len(levels)
    used = np.zeros(len(levels), bool)
    for rows in _strips(stored):
        used[stored[rows]] = True
    padding = levels == dataset.get("PixelPaddingValue")
    used[padding] = used.all()
    values = _modality(dataset, levels)
    shares = _voi(dataset, values)
    notes: tuple[str, ...] = ()
    if shares is None or np.ptp(np.clip(shares[used], 0, 1)) == 0:
        notes = (NO_WINDOW if shares is None else BLANK_WINDOW,)
        low, high = values[used].min(), values[used].max()
        shares = (values - low) / max(high - low, 1e-9)
    if not np.isfinite(shares).all():
        raise DicomFault("maps values to what is no number. Export it again.")
    shares = np.clip(shares, 0, 1)
    if dataset.PhotometricInterpretation == GRAYS[0]:
        shares = 1 - shares
    # What lies around an image shown in a frame is black, however its values are meant.
    shares[padding & ~used] = 0
    return np.rint(shares * 255).astype(np.uint8), notes


def _strips(values: np.ndarray) -> Iterator[slice]:
    """Rows of an image, about a million values at a time: as indices they take eight bytes each."""
    step = max(1, 2**20 // values.shape[1])
    return (slice(start, start + step) for start in range(0, len(values), step))


def _modality(dataset: Dataset, levels: np.ndarray) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset.ModalityLUTSequence[0], levels)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return levels * float(1 if slope is None else slope) + float(intercept or 0)


def _voi(dataset: Dataset, values: np.ndarray) -> np.ndarray | None:
    """What the first window or table of the header makes of values, from 0 to 1; None if it has neither."""
    if dataset.get("VOILUTSequence"):
        shown = _look_up(dataset.VOILUTSequence[0], values)
        return (shown - shown.min()) / max(np.ptp(shown), 1)
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or not width > 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    # PS3.3 C.11.2.1.2 and C.11.2.1.3
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5


def _look_up(item: Dataset, values: np.ndarray) -> np.ndarray:
    """Values through a table of the header (PS3.3 C.11.1.1): beyond its ends, its ends."""
    entries, first, _ = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    # A table for signed values may give its first one as an unsigned number.
    if first >= 2**15 and values.min() < 0:
        first -= 2**16
    table = item.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "u1" if len(table) < 2 * entries else "<u2")
    table = np.asarray(table, np.float64)
    return table[np.clip(np.rint(values) - first, 0, min(entries, len(table)) - 1).astype(np.intp)]


def _first(value: object) -> float | None:
    """The first of one or more numbers; None if there is none."""
    numbers: list = [value] if isinstance(value, (int, float, str)) else list(value or ())  # type: ignore[call-overload]
    return float(numbers[0]) if numbers and numbers[0] not in ("", None) else None


def _squared(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    """Pixels brought to squares: the shorter of their sides is stretched."""
    pairs = [dataset.get(name) or () for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing")]
    # Some files give zeros where nothing is known.
    known = [pair for pair in pairs if len(pair) == 2 and all(float(side) > 0 for side in pair)]
    height, width = (float(side) for side in (*known, (1, 1))[0])
    if not 1 / _MAX_STRETCH <= height / width <= _MAX_STRETCH:
        raise DicomFault("has pixels of impossible sides. Export it again.")
    if abs(height / width - 1) < 0.01:
        return pixels
    rows, columns = pixels.shape
    size = (columns, round(rows * height / width)) if height > width else (round(columns * width / height), rows)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
