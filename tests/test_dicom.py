"""DICOM: what is read of it, in every transfer syntax, what is refused and in which words, and that nobody is named."""

import json
import logging
import random
import struct
import time
import zlib
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
from dicom_files import COMPRESSED, PLANTED, UNCOMPRESSED, dicom_file
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pneumo import cli, dicom
from pneumo.dicom_header import Header
from pneumo.errors import NotAChestRadiograph, PneumoError, RadiographSizeError, UnreadableRadiograph
from pneumo.examination import Examination
from pneumo.radiograph import MAX_BYTES, Radiograph, is_radiograph_file, read_radiograph

WIDTH, HEIGHT = 97, 80
LOSSY = 12
"""Gray levels by which a lossy code of good quality may differ from what was stored."""
VIEW = "The networks saw frontal views (AP) alone: do not rely on this answer."
AGE = "The networks saw children of one to five years alone; by its header this patient's age is "


@pytest.fixture(scope="module")
def gray(images) -> np.ndarray:
    """A real radiograph, small, of odd width, from black to white."""
    with Image.open(images / "test" / "NORMAL" / "IM-0005-0001.jpeg") as image:
        values = np.array(image.convert("L").resize((WIDTH, HEIGHT)), np.float64)
    return np.rint((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)


def wide(gray: np.ndarray, bits: int) -> np.ndarray:
    """The same gray values in more bits."""
    if bits == 8:
        return gray
    return np.rint(gray / 255.0 * (2**bits - 1)).astype(np.uint16)


def item(**elements) -> Sequence:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return Sequence([made])


def table(entries: list[int], first: int, bits: int) -> Sequence:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    made.add_new("LUTData", "US", entries)
    return Sequence([made])


def assert_nobody_is_named(*places: str | bytes) -> None:
    for place in places:
        text = place if isinstance(place, str) else place.decode("latin-1")
        for planted in PLANTED:
            assert planted not in text


# --- pixels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", UNCOMPRESSED)
def test_uncompressed(gray, kind, bits):
    radiograph = read_radiograph(dicom_file(wide(gray, bits), kind, bits))
    np.testing.assert_array_equal(radiograph.pixels, gray)
    assert (radiograph.format, radiograph.notes) == ("DICOM", (dicom.NO_WINDOW,))
    assert radiograph.header == Header("CR", "chest", "AP")


@pytest.mark.parametrize(
    ("kind", "bits"), [(kind, bits) for kind, (_, _, all_bits) in COMPRESSED.items() for bits in all_bits]
)
def test_compressed(gray, kind, bits):
    values = wide(gray, bits)
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    radiograph = read_radiograph(dicom_file(values, kind, bits, **window))
    lossy = kind in ("JPEG baseline", "JPEG extended", "JPEG-LS near-lossless", "JPEG 2000")
    np.testing.assert_allclose(radiograph.pixels.astype(int), gray, atol=LOSSY if lossy else 0)
    assert radiograph.notes == ()


def test_compressed_in_several_fragments(gray):
    from pydicom.encaps import encapsulate

    _, encode, _ = COMPRESSED["JPEG 2000 lossless"]
    data = encapsulate([encode(gray, 8)], fragments_per_frame=3)
    np.testing.assert_array_equal(read_radiograph(dicom_file(gray, "JPEG 2000 lossless", PixelData=data)).pixels, gray)


def test_code_of_fewer_bits_than_the_header_says(gray):
    data = dicom_file(gray, "JPEG-LS", BitsAllocated=16, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_radiograph(data).pixels, gray)


def test_signed_values(gray):
    values = wide(gray, 12).astype(np.int16) - 2048
    assert values.min() < 0
    for kind in ("explicit", "RLE"):
        stored = values if kind == "explicit" else (values & 0xFFF).astype(np.uint16)
        data = dicom_file(stored, kind, 12, PixelRepresentation=1)
        np.testing.assert_array_equal(read_radiograph(data).pixels, gray)


def test_values_in_the_upper_bits_with_an_overlay_below(gray):
    values = (wide(gray, 12) << 4) | 0b1010
    data = dicom_file(values, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_radiograph(data).pixels, gray)


@pytest.mark.parametrize("kind", ["explicit", "JPEG-LS"])
def test_monochrome1_is_inverted(gray, kind):
    data = dicom_file(255 - gray, kind, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_radiograph(data).pixels, gray)


def test_padding_neither_sets_the_range_nor_shines(gray):
    values = np.where(gray < 20, 4095, 100 + gray.astype(np.uint16))
    pixels = read_radiograph(dicom_file(values, bits=12, PixelPaddingValue=4095)).pixels
    assert (pixels[gray < 20] == 0).all()
    assert pixels.max() == 255
    np.testing.assert_array_equal(np.unique(pixels[gray >= 20]).size, np.unique(gray[gray >= 20]).size)


@pytest.mark.parametrize("kind", ["explicit", "big-endian"])
def test_rescaled_and_windowed_as_the_standard_says(gray, kind):
    """Against PS3.3 C.11.2.1.2.1, written out."""
    values, slope, intercept, center, width = wide(gray, 12), 2.0, -1000.0, 2000, 4000
    data = dicom_file(
        values,
        kind,
        12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[center, 1],
        WindowWidth=[width, 1],
    )
    x = values * slope + intercept
    expected = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    expected[x <= center - 0.5 - (width - 1) / 2] = 0
    expected[x > center - 0.5 + (width - 1) / 2] = 255
    assert expected.min() == 0
    assert expected.max() == 255
    pixels = read_radiograph(data).pixels
    np.testing.assert_array_equal(pixels, np.rint(expected))
    assert 0 < (pixels == 0).mean() < 0.5
    assert 0 < (pixels == 255).mean() < 0.5


def test_window_functions(gray):
    window = {"WindowCenter": 128, "WindowWidth": 100}
    exact = read_radiograph(dicom_file(gray, VOILUTFunction="LINEAR_EXACT", **window)).pixels
    np.testing.assert_array_equal(exact, np.rint(np.clip((gray - 128.0) / 100 + 0.5, 0, 1) * 255))
    sigmoid = read_radiograph(dicom_file(gray, VOILUTFunction="SIGMOID", **window)).pixels
    np.testing.assert_array_equal(sigmoid, np.rint(255 / (1 + np.exp(-4 * (gray - 128.0) / 100))))


def test_window_that_shows_nothing_is_not_taken(gray):
    radiograph = read_radiograph(dicom_file(gray, WindowCenter=40000, WindowWidth=10))
    np.testing.assert_array_equal(radiograph.pixels, gray)
    assert radiograph.notes == (dicom.BLANK_WINDOW,)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables(gray, name):
    """A table that inverts, for values from 10 to 200; beyond them its ends hold."""
    entries = [65535 - 300 * value for value in range(191)]
    pixels = read_radiograph(dicom_file(gray, **{name: table(entries, 10, 16)})).pixels
    reached = np.clip(gray.astype(int), 10, 200)
    expected = 255 - np.rint((reached - 10) / 190 * 255)
    np.testing.assert_allclose(pixels, expected, atol=1)
    assert pixels.max() == 255


def test_table_of_8_bits_for_values_of_more(gray):
    """Where values reach beyond what the table's own type holds, they must not wrap around."""
    entries = list(range(256))
    pixels = read_radiograph(dicom_file(wide(gray, 12), bits=12, VOILUTSequence=table(entries, 1000, 8))).pixels
    np.testing.assert_array_equal(pixels, np.clip(wide(gray, 12).astype(int) - 1000, 0, 255))


@pytest.mark.parametrize(
    ("elements", "shape"),
    [
        ({"PixelAspectRatio": [4, 3]}, (107, WIDTH)),
        ({"PixelAspectRatio": [1, 2]}, (HEIGHT, 2 * WIDTH)),
        ({"PixelSpacing": [0.2, 0.1]}, (2 * HEIGHT, WIDTH)),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (HEIGHT, 2 * WIDTH)),
        ({"PixelSpacing": [0.143, 0.143]}, (HEIGHT, WIDTH)),
        ({"PixelSpacing": [0, 0]}, (HEIGHT, WIDTH)),
    ],
)
def test_pixels_that_are_no_squares(gray, elements, shape):
    assert read_radiograph(dicom_file(gray, **elements)).pixels.shape == shape


def test_same_answer_as_the_picture(images, examiner):
    """The networks say of a DICOM file what they say of the same gray values in a PNG."""
    path = images / "test" / "NORMAL" / "IM-0005-0001.jpeg"
    picture = read_radiograph(path)
    window = {"WindowCenter": 127.5, "WindowWidth": 255, "VOILUTFunction": "LINEAR_EXACT"}
    radiograph = read_radiograph(dicom_file(picture.pixels, "JPEG lossless", **window))
    np.testing.assert_array_equal(radiograph.pixels, picture.pixels)
    answer, expected = examiner.examine(radiograph).record(), examiner.examine(picture).record()
    assert answer["networks"] == expected["networks"]
    assert answer["header"] == {"modality": "CR", "body_part": "chest", "view": "AP", "age": ""}
    assert expected["header"] is None


# --- the header -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Modality": "CT"}, "is a CT"),
        ({"Modality": "MR"}, "is an MRI"),
        ({"Modality": "PLANTED"}, "is of a modality other than CR and DX"),
        ({"BodyPartExamined": "LEG"}, "is a radiograph of a leg"),
        ({"BodyPartExamined": "FOREARM"}, "is a radiograph of a forearm"),
        ({"BodyPartExamined": "PLANTED NAME"}, "is a radiograph of a part of the body other than the chest"),
        (
            {"BodyPartExamined": "", "AnatomicRegionSequence": item(CodeMeaning="Knee joint")},
            "is a radiograph of a knee",
        ),
    ],
)
def test_what_is_no_chest_radiograph(gray, elements, words):
    with pytest.raises(NotAChestRadiograph) as refused:
        read_radiograph(dicom_file(gray, **elements), "PLANTED.dcm")
    file = refused.value.file
    assert str(refused.value) == (
        f"A radiograph must be a frontal one of the chest; by its header {file} {words}. Choose a chest radiograph."
    )
    assert_nobody_is_named(str(refused.value))


@pytest.mark.parametrize(
    ("elements", "header"),
    [
        ({"ViewPosition": "PA"}, Header("CR", "chest", "PA")),
        ({"ViewPosition": "LL"}, Header("CR", "chest", "left lateral")),
        ({"ViewPosition": "LATERAL"}, Header("CR", "chest", "lateral")),
        ({"ViewPosition": "", "ViewCodeSequence": item(CodeMeaning="Right lateral")}, Header("CR", "chest", "lateral")),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, Header("CR", "chest", "lateral")),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, Header("CR", "chest", "")),
        ({"ViewPosition": "PLANTED"}, Header("CR", "chest", "")),
        ({"PatientAge": "004Y"}, Header("CR", "chest", "AP", "1 to 5 years")),
        ({"PatientAge": "018M"}, Header("CR", "chest", "AP", "1 to 5 years")),
        ({"PatientAge": "010D"}, Header("CR", "chest", "AP", "under 1 year")),
        ({"PatientAge": "017Y"}, Header("CR", "chest", "AP", "6 to 17 years")),
        ({"PatientAge": "064Y"}, Header("CR", "chest", "AP", "18 years or more")),
        ({"PatientAge": "000Y"}, Header("CR", "chest", "AP", "")),
        ({"Modality": "DX", "BodyPartExamined": "THORAX"}, Header("DX", "chest", "AP")),
        ({"Modality": "OT", "BodyPartExamined": None}, Header("", "", "AP")),
        ({"PresentationIntentType": "FOR PROCESSING"}, Header("CR", "chest", "AP", raw=True)),
        ({"BurnedInAnnotation": "YES"}, Header("CR", "chest", "AP", burned_in=True)),
    ],
)
def test_header(gray, elements, header):
    assert read_radiograph(dicom_file(gray, **elements)).header == header


@pytest.mark.parametrize(
    ("header", "warnings"),
    [
        (Header("CR", "chest", "AP", "1 to 5 years"), []),
        (
            Header("CR", "chest", "left lateral"),
            [f"By its header this is a left lateral view. {VIEW}"],
        ),
        (
            Header("CR", "chest", "PA", "18 years or more"),
            [f"{AGE}18 years or more. What their answers are worth at other ages is not known."],
        ),
        (
            Header("", "", "oblique", raw=True, burned_in=True),
            [
                f"By its header this is an oblique view. {VIEW}",
                "Its header does not say the modality and the body part: make sure that it shows a chest.",
                "By its header these are raw values, not processed for viewing: its contrast may mislead.",
                "By its header writing is burned into this picture: it may name the patient.",
            ],
        ),
    ],
)
def test_warnings(header, warnings, gray):
    assert list(header.warnings) == warnings
    radiograph = Radiograph(gray, "DICOM 0", "DICOM", "0", ("A note.",), header)
    examination = Examination(radiograph, {}, {}, None)
    assert list(examination.warnings) == ["A note.", *warnings]


# --- refusals ---------------------------------------------------------------------------------------------------


def deflated_bomb(gray) -> bytes:
    data = dicom_file(gray, "deflated")
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(130)) + packer.flush()
    return data[:start] + packed


def header_end(data: bytes) -> int:
    return 144 + struct.unpack_from("<I", data, 140)[0]


def nested(gray) -> bytes:
    """Sequences of undefined length in one another, deeper than Python follows."""
    data = dicom_file(gray, "implicit")
    opening = struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return data[: header_end(data)] + opening * 100_000


def elements_without_end(gray) -> bytes:
    data = dicom_file(gray, "implicit")
    return data[: header_end(data)] + struct.pack("<HHI", 0x0008, 0x0070, 0) * 2_000_000


def jpeg_2000_of(rows: int, columns: int):
    """Compressed pixels that claim a size, in a file that claims another."""

    def make(gray) -> bytes:
        data = dicom_file(gray, "JPEG 2000 lossless")
        place = data.index(b"\xff\x4f\xff\x51") + 8
        return data[:place] + struct.pack(">II", columns, rows) + data[place + 8 :]

    return make


def tiny_tiles(gray) -> bytes:
    data = dicom_file(gray, "JPEG 2000 lossless")
    place = data.index(b"\xff\x4f\xff\x51") + 24
    return data[:place] + struct.pack(">II", 1, 1) + data[place + 8 :]


DAMAGED = "is truncated or damaged. Copy or export it again."
REFUSED = {
    "nothing behind the magic": (lambda gray: bytes(128) + b"DICM", DAMAGED),
    "random bytes behind the magic": (lambda gray: bytes(128) + b"DICM" + random.Random(0).randbytes(4000), DAMAGED),
    "pixels cut off": (lambda gray: dicom_file(gray)[:-200], DAMAGED),
    "compressed pixels cut off": (lambda gray: dicom_file(gray, "JPEG-LS")[:-2000], "holds no image, or is cut off."),
    "run lengths cut off": (lambda gray: dicom_file(gray, "RLE")[:-2000], "holds no image, or is cut off."),
    "no image": (
        lambda gray: dicom_file(gray, PixelData=None),
        "holds no image, or is cut off. Export the image itself.",
    ),
    "several frames": (
        lambda gray: dicom_file(np.concatenate([gray] * 3), NumberOfFrames=3, Rows=HEIGHT),
        "is a multi-frame image of 3 frames. Export the one frame to be read.",
    ),
    "colour": (
        lambda gray: dicom_file(gray, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        "is in colour, not MONOCHROME1 or MONOCHROME2. Export the radiograph as it was taken.",
    ),
    "palette": (
        lambda gray: dicom_file(gray, PhotometricInterpretation="PALETTE COLOR"),
        "is in colour, not MONOCHROME1 or MONOCHROME2. Export the radiograph as it was taken.",
    ),
    "one bit": (
        lambda gray: dicom_file(gray, BitsAllocated=1, BitsStored=1, HighBit=0),
        "stores 1 of 1 bits a value; 8 to 16 are read. Export the radiograph as it was taken.",
    ),
    "32 bits": (
        lambda gray: dicom_file(gray, BitsAllocated=32, BitsStored=32, HighBit=31),
        "stores 32 of 32 bits a value; 8 to 16 are read. Export the radiograph as it was taken.",
    ),
    "bits that there are not": (lambda gray: dicom_file(gray, HighBit=9), "names bits that its values do not have."),
    "a slope that is no number": (
        lambda gray: dicom_file(gray, RescaleSlope="1e400", RescaleIntercept="0"),
        "maps values to what is no number.",
    ),
    "impossible pixels": (lambda gray: dicom_file(gray, PixelAspectRatio=[1, 100]), "has pixels of impossible sides"),
    "a deflated bomb": (deflated_bomb, "holds more than 128 MiB. Export it at a lower resolution."),
    "deflated garbage": (lambda gray: dicom_file(gray, "deflated")[:-900] + b"garbage", DAMAGED),
    "sequences without end": (nested, "is truncated or damaged"),
    "elements without end": (elements_without_end, "has more elements than an image has. Export it again."),
    "JPEG 2000 of another size": (jpeg_2000_of(60_000, 60_000), DAMAGED),
    "JPEG 2000 of many tiles": (tiny_tiles, DAMAGED),
    "JPEG where JPEG-LS is said": (
        lambda gray: dicom_file(gray, "JPEG baseline").replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90"),
        DAMAGED,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gray, name):
    make, words = REFUSED[name]
    data = make(gray)
    start = time.process_time()
    with pytest.raises(UnreadableRadiograph) as refused:
        read_radiograph(data, "PLANTED_NAME.dcm")
    assert time.process_time() - start < 5
    assert words in str(refused.value)
    assert refused.value.file.startswith("DICOM ")
    assert_nobody_is_named(str(refused.value))


def test_transfer_syntax_that_is_not_read(gray):
    data = dicom_file(gray, "JPEG baseline").replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.60")
    with pytest.raises(UnreadableRadiograph, match="which is not read; JPEG, JPEG-LS, JPEG 2000 and RLE are"):
        read_radiograph(data)


def test_claim_of_more_pixels_than_are_read(gray):
    for rows, columns, words in ((60_000, 60_000, "at most 50 megapixels"), (10, 4000, "at least 64 pixels")):
        with pytest.raises(RadiographSizeError, match=words):
            read_radiograph(dicom_file(gray, Rows=rows, Columns=columns), "PLANTED.dcm")


def test_file_that_is_too_large(gray, tmp_path):
    path = tmp_path / "PLANTED.dcm"
    path.write_bytes(dicom_file(gray))
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(RadiographSizeError) as refused:
        read_radiograph(path)
    assert "PLANTED" not in str(refused.value)


@pytest.mark.parametrize("kind", ["explicit", "implicit", "deflated", *COMPRESSED])
def test_mutations(gray, kind):
    """Damage of any kind is read or refused in words, soon, and names nobody."""
    data, random_ = dicom_file(gray, kind), random.Random(kind)
    read = 0
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(random_.choice((1, 2, 8))):
            place = random_.randrange(132, min(len(data), random_.choice((1400, len(data)))))
            damaged[place] = random_.choice((0, 255, random_.randrange(256)))
        if random_.random() < 0.2:
            del damaged[random_.randrange(132, len(damaged)) :]
        start, words = time.process_time(), ""
        try:
            read_radiograph(bytes(damaged), "PLANTED.dcm")
            read += 1
        except PneumoError as error:
            words = str(error)
        assert_nobody_is_named(words)
        assert time.process_time() - start < 5
    assert 0 < read < 120


# --- real files -------------------------------------------------------------------------------------------------


REAL = sorted(
    path
    for folder in (Path(pydicom.__file__).parent / "data" / "test_files", Path(data_store.__file__).parent / "data")
    for path in folder.rglob("*")
    if path.is_file()
)
"""Those of pydicom itself and of pydicom-data."""


def test_real_files():
    """Each is read, or refused in words; what each is, is said."""
    words = {}
    for path in REAL:
        if path.stat().st_size > 10 * 2**20:
            continue
        try:
            words[path.name] = f"read: {read_radiograph(path).header}"
        except PneumoError as error:
            words[path.name] = str(error)
    assert len(words) > 80
    assert "is a CT" in words["CT_small.dcm"]
    assert "is an MRI" in words["MR_small_RLE.dcm"]
    assert "is an ultrasound" in words["examples_ybr_color.dcm"]
    assert "is a radiotherapy plan" in words["rtplan.dcm"]
    assert "is in colour" in words["SC_rgb_jpeg_dcmtk.dcm"]
    assert "is a multi-frame image of 2 frames" in words["SC_rgb_rle_2frame.dcm"]
    assert "holds no image" in words["emri_small_jpeg_2k_lossless_too_short.dcm"]
    assert words["image_dfl.dcm"].startswith("read: ")


@pytest.mark.parametrize("name", ["RG1_UNCI.dcm", "RG1_UNCR.dcm", "RG1_J2KI.dcm", "RG1_J2KR.dcm"])
def test_real_chest(name):
    """The chest radiograph of pydicom-data, MONOCHROME1 of 15 bits: white bone on black, the same in each coding."""
    radiograph = read_radiograph(next(path for path in REAL if path.name == name))
    assert radiograph.header == Header("CR", "chest", "PA")
    assert radiograph.pixels.shape == (1955, 1841)
    reference = read_radiograph(next(path for path in REAL if path.name == f"RG1_UNC{name[-5]}.dcm"))
    np.testing.assert_allclose(radiograph.pixels.astype(int), reference.pixels, atol=1)
    # The lungs are darker than what lies between them.
    assert radiograph.pixels[900:1100, 500].mean() < radiograph.pixels[900:1100, 950].mean() - 30


def test_real_leg():
    path = next(path for path in REAL if path.name == "RG3_UNCI.dcm")
    with pytest.raises(NotAChestRadiograph, match="is a radiograph of a limb"):
        read_radiograph(path)


# --- names ------------------------------------------------------------------------------------------------------


def test_nothing_of_a_patient_is_kept(gray, caplog, capfd):
    data = dicom_file(gray, PatientAge="030Y")
    with caplog.at_level(logging.DEBUG):
        radiograph = read_radiograph(data, "PLANTED_NAME.dcm")
    assert_nobody_is_named(repr(radiograph), caplog.text, *capfd.readouterr())
    assert radiograph.name == f"DICOM {radiograph.sha256[:8]}"
    assert set(dicom.open_dicom(data)._dataset.dir()) <= {*dicom.TAGS, "SpecificCharacterSet"}


def test_values_that_break_a_rule_are_not_logged(gray, caplog, capfd):
    """pydicom itself logs such values."""
    data = dicom_file(gray).replace(b"1.2.826.0.1.4711.2", b"1.2.826.PLANTED.12").replace(b"19010203", b"PLANTED!")
    with caplog.at_level(logging.DEBUG):
        read_radiograph(data)
    assert_nobody_is_named(caplog.text, *capfd.readouterr())


def test_command_line_names_nobody(gray, images, tmp_path, capfd):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    large = np.array(Image.open(images / "test" / "NORMAL" / "IM-0005-0001.jpeg").convert("L"))
    (folder / "PLANTED_NAME.dcm").write_bytes(dicom_file(large, PatientAge="030Y"))
    (folder / "1.2.826.0.1.4711.1").write_bytes(dicom_file(large, "RLE", ViewPosition="LL"))
    (folder / "PLANTED_LEG").write_bytes(dicom_file(large, BodyPartExamined="LEG"))
    (folder / "PLANTED_CUT.dcm").write_bytes(dicom_file(large)[:3000])
    (folder / "DICOMDIR").write_bytes(dicom_file(large, PixelData=None))
    (folder / "notes.txt").write_text("no radiograph")
    options = ["--models", "cnn", "--out", str(out), str(folder)]
    printed = {}
    for form in ("table", "json", "csv"):
        assert cli.main(["predict", "--format", form, *options]) == 1
        printed[form], errors = capfd.readouterr()
        shown = printed[form].replace(str(folder), "FOLDER")
        assert_nobody_is_named(shown, errors)
    records = [json.loads(line) for line in printed["json"].splitlines()]
    assert len(records) == 4
    assert all(record["file"].startswith("DICOM ") for record in records)
    assert sum("error" in record for record in records) == 2
    assert [record["header"]["age"] for record in records if "header" in record].count("18 years or more") == 1
    assert any("left lateral view" in " ".join(record.get("warnings", ())) for record in records)
    pictures = sorted(out.iterdir())
    assert pictures
    assert_nobody_is_named(*map(str, pictures), *(path.read_bytes() for path in pictures))


def test_command_line_names_files_if_told(gray, tmp_path, capfd):
    path = tmp_path / "PLANTED.dcm"
    path.write_bytes(dicom_file(gray))
    broken = tmp_path / "BROKEN.dcm"
    broken.write_bytes(dicom_file(gray)[:3000])
    arguments = ["predict", "--file-names", "--format", "json", "--models", "cnn", str(path), str(broken)]
    assert cli.main(arguments) == 1
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [record["file"] for record in records] == [str(path), str(broken)]


@pytest.mark.parametrize(
    ("name", "content", "taken"),
    [
        ("a.dcm", b"", True),
        ("IM000001", bytes(128) + b"DICM", True),
        ("1.2.840.113", bytes(128) + b"DICM", True),
        ("IM000002", b"text", False),
        ("DICOMDIR", bytes(128) + b"DICM", False),
        ("a.JPEG", b"", True),
        ("a.txt", b"", False),
    ],
)
def test_files_of_a_folder(tmp_path, name, content, taken):
    (tmp_path / name).write_bytes(content)
    assert is_radiograph_file(tmp_path / name) is taken
