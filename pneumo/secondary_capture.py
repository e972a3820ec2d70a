"""A radiograph with heat over it as a DICOM Secondary Capture, in which no patient is named."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

from pneumo.examination import DISCLAIMER, Examination
from pneumo.methods import METHODS
from pneumo.render import overlay
from pneumo.zoo import architecture

QUALITY = 95
"""Of the picture's JPEG, whose colours have half the resolution across, as DICOM wants it."""
# Elements that must be there, and may be empty: those of the patient and the study.
_EMPTY = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientOrientation",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)


def secondary_capture(examination: Examination, network: str) -> bytes:
    """One network's heatmap over the radiograph, as a DICOM file.

    Nothing of the radiograph's own header is carried over, but that writing may be burned into the picture; patient and
    study are empty or new.

    Parameters
    ----------
    examination : Examination
    network : str
        One with a heatmap that is drawn.
    """
    heatmap = examination.heatmaps[network]
    pixels = overlay(examination.radiograph, heatmap)
    picture = bytes(imagecodecs.jpeg8_encode(pixels, QUALITY, subsampling="422"))
    file = Dataset()
    for keyword in _EMPTY:
        setattr(file, keyword, "")
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(None)
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(None), generate_uid(None)
    file.SpecificCharacterSet = "ISO_IR 192"
    file.Modality, file.ConversionType, file.ImageType = "OT", "WSD", ["DERIVED", "SECONDARY"]
    file.SeriesNumber, file.InstanceNumber = 1, 1
    file.Manufacturer = "pneumo"
    title = f"{architecture(network).title}: {METHODS[heatmap.method].title} for {heatmap.target}"
    # A long string of DICOM has at most 64 characters.
    file.SeriesDescription = title[:64]
    file.DerivationDescription = f"{title}. {DISCLAIMER}"
    file.PatientIdentityRemoved, file.DeidentificationMethod = "YES", "Nothing of the original's header is carried over"
    header = examination.radiograph.header
    file.BurnedInAnnotation = "YES" if header and header.burned_in else "NO"
    file.Rows, file.Columns, file.SamplesPerPixel = *pixels.shape[:2], 3
    file.PhotometricInterpretation, file.PlanarConfiguration = "YBR_FULL_422", 0
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.LossyImageCompression, file.LossyImageCompressionMethod = "01", "ISO_10918_1"
    file.LossyImageCompressionRatio = round(np.prod(pixels.shape).item() / len(picture), 1)
    file.PixelData = encapsulate([picture])
    file["PixelData"].VR = "OB"
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
