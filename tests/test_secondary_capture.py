"""The overlay as a DICOM Secondary Capture: what it holds, and that it names nobody."""

import io

import numpy as np
import pytest
from dicom_files import PLANTED, dicom_file
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from pneumo.errors import UnreadableRadiograph
from pneumo.examination import DISCLAIMER
from pneumo.radiograph import read_radiograph
from pneumo.render import overlay
from pneumo.saliency import HeatStatus
from pneumo.secondary_capture import secondary_capture


@pytest.fixture(scope="module")
def examination(images, examiner):
    pixels = read_radiograph(images / "test" / "PNEUMONIA" / "person122_bacteria_582.jpeg").pixels
    return examiner.examine(read_radiograph(dicom_file(pixels, BurnedInAnnotation="YES")))


@pytest.mark.parametrize("network", ["cnn", "cnn_lstm", "cnn_rnn"])
def test_secondary_capture(examination, network):
    heatmap = examination.heatmaps[network]
    assert heatmap.status is HeatStatus.DRAWN
    data = secondary_capture(examination, network)
    assert not any(planted.encode() in data for planted in PLANTED)
    file = dcmread(io.BytesIO(data))
    assert file.SOPClassUID == SecondaryCaptureImageStorage
    assert file.PatientName == file.PatientID == file.PatientBirthDate == ""
    assert (file.Modality, file.ConversionType, file.BurnedInAnnotation) == ("OT", "WSD", "YES")
    assert DISCLAIMER in file.DerivationDescription
    assert heatmap.target in file.DerivationDescription
    expected = overlay(examination.radiograph, heatmap).astype(int)
    # pydicom's own decoder gives YCbCr, by Pillow.
    shown = file.pixel_array
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 1.5


def test_each_is_an_instance_of_its_own(examination):
    first, second = (dcmread(io.BytesIO(secondary_capture(examination, "cnn"))) for _ in range(2))
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert first[name].value != second[name].value
    assert first.PixelData == second.PixelData


def test_it_is_not_taken_for_a_radiograph(examination):
    with pytest.raises(UnreadableRadiograph, match="is in colour"):
        read_radiograph(secondary_capture(examination, "cnn"))
