"""DICOM files made of real radiographs, with the identity of a patient planted in all the places where one stands."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

PLANTED = ("PLANTED", "19010203", "1.2.826.0.1.4711")
"""What a test must find nowhere: the beginnings of names, numbers, a birth date and UIDs."""
UNCOMPRESSED = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": ExplicitVRLittleEndian,
    "deflated": "1.2.840.10008.1.2.1.99",
    "big-endian": "1.2.840.10008.1.2.2",
}


def _rle(values: np.ndarray) -> bytes:
    """Run lengths, the most significant bytes first (PS3.5 annex G)."""
    planes = [(values >> shift).astype(np.uint8) for shift in range(8 * (values.itemsize - 1), -1, -8)]
    segments = [b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane) for plane in planes]
    offsets = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    return np.array([len(segments), *offsets, *[0] * (15 - len(segments))], "<u4").tobytes() + b"".join(segments)


COMPRESSED: dict[str, tuple[str, Callable[[np.ndarray, int], bytes], tuple[int, ...]]] = {
    "JPEG baseline": ("1.2.840.10008.1.2.4.50", lambda gray, _bits: imagecodecs.jpeg8_encode(gray, 97), (8,)),
    "JPEG extended": (
        "1.2.840.10008.1.2.4.51",
        lambda gray, bits: imagecodecs.jpeg8_encode(gray, 99, bitspersample=bits),
        (12,),
    ),
    "JPEG lossless": (
        "1.2.840.10008.1.2.4.57",
        lambda gray, bits: imagecodecs.jpeg8_encode(gray, lossless=True, predictor=6, bitspersample=bits),
        (8, 12, 16),
    ),
    "JPEG lossless SV1": (
        "1.2.840.10008.1.2.4.70",
        lambda gray, bits: imagecodecs.jpeg8_encode(gray, lossless=True, predictor=1, bitspersample=bits),
        (8, 12, 16),
    ),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda gray, _bits: imagecodecs.jpegls_encode(gray), (8, 16)),
    "JPEG-LS near-lossless": (
        "1.2.840.10008.1.2.4.81",
        lambda gray, _bits: imagecodecs.jpegls_encode(gray, 2),
        (8, 16),
    ),
    "JPEG 2000 lossless": (
        "1.2.840.10008.1.2.4.90",
        lambda gray, bits: imagecodecs.jpeg2k_encode(gray, codecformat="j2k", reversible=True, bitspersample=bits),
        (8, 12, 16),
    ),
    "JPEG 2000": (
        "1.2.840.10008.1.2.4.91",
        lambda gray, bits: imagecodecs.jpeg2k_encode(gray, level=60, codecformat="j2k", bitspersample=bits),
        (8, 12, 16),
    ),
    "RLE": ("1.2.840.10008.1.2.5", lambda gray, _bits: _rle(gray), (8, 12, 16)),
}
"""Compressed transfer syntaxes: UID, encoder of gray values and their bits, and the bits that are tried."""


def dicom_file(gray: np.ndarray, kind: str = "explicit", bits: int | None = None, **elements: Any) -> bytes:
    """A computed radiograph of a chest as the bytes of a DICOM file.

    Parameters
    ----------
    gray : numpy.ndarray of uint8, uint16 or int16
        The stored values.
    kind : str
        Transfer syntax: a key of `UNCOMPRESSED` or `COMPRESSED`.
    bits : int, optional
        Bits stored. Default: all of the type.
    **elements
        By keyword, over what it has by default; None leaves one out.
    """
    bits = bits or 8 * gray.itemsize
    file, sequenced = Dataset(), Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = ComputedRadiographyImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.826.0.1.4711.1"
    file.StudyInstanceUID, file.SeriesInstanceUID = "1.2.826.0.1.4711.2", "1.2.826.0.1.4711.3"
    file.PatientName = sequenced.PatientName = file.ReferringPhysicianName = "PLANTED^NAME"
    file.PatientID = file.AccessionNumber = file.StudyID = "PLANTED4711"
    file.PatientBirthDate = file.StudyDate = "19010203"
    file.InstitutionName = file.StudyDescription = file.PatientComments = file.ProtocolName = "PLANTED TEXT"
    file.OtherPatientIDsSequence = file.ReferencedPatientSequence = Sequence([sequenced])
    file.add_new((0x0009, 0x0010), "LO", "PLANTED PRIVATE")
    file.Modality, file.BodyPartExamined, file.ViewPosition = "CR", "CHEST", "AP"
    file.Rows, file.Columns = gray.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 8 * gray.itemsize, bits, bits - 1
    file.PixelRepresentation = int(gray.dtype.kind == "i")
    if kind in UNCOMPRESSED:
        syntax = UNCOMPRESSED[kind]
        stored = gray.astype(gray.dtype.newbyteorder(">" if kind == "big-endian" else "<")).tobytes()
        file.PixelData = stored + b"\0" * (len(stored) % 2)
    else:
        syntax, encode, _ = COMPRESSED[kind]
        file.PixelData = encapsulate([encode(gray, bits)])
    file["PixelData"].VR = "OB" if kind in COMPRESSED or gray.itemsize == 1 else "OW"
    file.file_meta.TransferSyntaxUID = syntax
    for keyword, value in elements.items():
        if value is None:
            delattr(file, keyword)
        else:
            setattr(file, keyword, value)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
