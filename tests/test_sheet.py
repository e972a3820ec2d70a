"""The one-page report: what its text says, that it fits, that it names nobody, and who gives it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace

import cv2
import numpy as np
import pypdfium2
import pytest
from conftest import DATA, ROOT
from dicom_files import PLANTED, dicom_file

from pneumo import __version__, cli
from pneumo.covering import HOTTEST
from pneumo.examination import DISCLAIMER
from pneumo.radiograph import read_radiograph
from pneumo.report import percent, probability
from pneumo.sheet import DOTS_PER_INCH, sheet_pdf, sheet_png

RADIOGRAPH = DATA / "full_resolution" / "person26_virus_60.jpeg"


@pytest.fixture(scope="module")
def examination(examiner):
    return examiner.examine(read_radiograph(RADIOGRAPH, "Jane Doe 1971.jpeg"), cover=HOTTEST)


def words_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    assert len(document) == 1
    text = document[0].get_textpage().get_text_range()
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


def boxes_of(pdf: bytes) -> list[tuple[float, ...]]:
    page = pypdfium2.PdfDocument(pdf)[0].get_textpage()
    return [page.get_rect(index) for index in range(page.count_rects())]


def test_it_says_what_the_record_says(examination, examiner):
    record, text = examination.record(), words_of(sheet_pdf(examination, examiner.bundle))
    assert record["summary"] in text
    for name, network in record["networks"].items():
        assert probability(network["probability"]) in text
        assert f"Balanced operating point {percent(network['threshold'])}: from there on it calls pneumonia." in text
        assert network["decision"] in text
        assert network["saliency"]["words"] in text
        assert network["covered"]["words"] in text
        assert examiner.bundle.manifest["networks"][name]["sha256"] in text
    assert probability(record["together"]["probability"]) in text
    for warning in record["warnings"]:
        assert warning in text
    assert text.count(DISCLAIMER) == 2
    assert f"pneumo {__version__}." in text
    assert f"{examination.radiograph.width} \N{MULTIPLICATION SIGN} {examination.radiograph.height} pixels" in text
    assert examination.radiograph.sha256 in text
    assert "Jane" not in text


def test_same_examination_gives_the_same_bytes(examination, examiner):
    assert sheet_pdf(examination, examiner.bundle) == sheet_pdf(examination, examiner.bundle)


def test_names_nobody(examination, examiner):
    large = examination.radiograph.pixels
    radiograph = read_radiograph(dicom_file(large, PatientAge="034Y", BurnedInAnnotation="YES"), "PLANTED.dcm")
    pdf = sheet_pdf(examiner.examine(radiograph, 0.3), examiner.bundle)
    text = words_of(pdf)
    assert "age 18 years or more" in text
    assert "Custom operating point 30.0 %" in text
    for planted in PLANTED:
        assert planted not in text
        assert planted.encode() not in pdf


@pytest.mark.parametrize("count", [0, 1, 6, 60])
def test_warnings_never_leave_the_page(examination, examiner, count):
    notices = tuple(f"Number {number}: {'a cause that is told at length, ' * 8}" for number in range(count))
    pdf = sheet_pdf(replace(examination, notices=notices), examiner.bundle)
    for left, bottom, right, top in boxes_of(pdf):
        assert left > 30
        assert bottom > 25
        assert right < 565
        assert top < 815
    text = words_of(pdf)
    assert all(notice.strip() in text for notice in notices[:4])
    assert ("More warnings do not fit on this page" in text) == (count == 60)


def test_radiograph_without_lungs_and_letters_beyond_the_font(examiner):
    examination = examiner.examine(read_radiograph(np.full((80, 300), 7, np.uint8)), anyway=True)
    examination = replace(examination, notices=("A folder of <b>\N{GREEK SMALL LETTER ALPHA}</b> & more.",))
    text = words_of(sheet_pdf(examination, examiner.bundle))
    assert "A folder of <b>?</b> & more." in text
    assert "No lung was found." in text


def test_png_is_the_pdf_drawn(examination, examiner):
    png = sheet_png(sheet_pdf(examination, examiner.bundle))
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[:2]
    assert width == pytest.approx(8.27 * DOTS_PER_INCH, abs=2)
    assert height == pytest.approx(11.69 * DOTS_PER_INCH, abs=2)
    # White margins, a black picture's frame, and the heat's colours.
    assert pixels[:60].min() == 255
    assert pixels.min() == 0
    assert (np.ptp(pixels.astype(int), axis=2) > 60).mean() > 0.002


def test_version_is_that_of_the_project():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_command_line_writes_both(bundle_folder, tmp_path, capsys):
    common = ["predict", str(RADIOGRAPH), "--format", "json", "--bundle", str(bundle_folder)]
    for name in ("report.pdf", "report.png"):
        assert cli.main([*common, "--report", str(tmp_path / name)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    text = words_of((tmp_path / "report.pdf").read_bytes())
    assert record["summary"] in text
    assert all(probability(network["probability"]) in text for network in record["networks"].values())
    assert (tmp_path / "report.png").read_bytes() == sheet_png((tmp_path / "report.pdf").read_bytes())


@pytest.mark.parametrize(
    ("inputs", "report", "words"),
    [
        ([RADIOGRAPH], "report.docx", "--report writes .pdf or .png files; received 'report.docx'"),
        ([RADIOGRAPH, RADIOGRAPH], "report.pdf", "--report takes one radiograph; received several"),
        ([RADIOGRAPH.parent], "report.pdf", "--report takes one radiograph; received several"),
    ],
)
def test_command_line_refuses(inputs, report, words, tmp_path, capsys):
    assert cli.main(["predict", *map(str, inputs), "--report", str(tmp_path / report)]) == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
def test_page_gives_report_and_record(browser, server):
    page = browser.new_page()
    page.goto(server)
    page.locator("#download-pdf").click()
    page.locator(".toast-body", has_text="Choose an example, or add a chest X-ray, first.").wait_for()
    page.set_input_files("#upload input[type=file]", RADIOGRAPH)
    page.locator("#verdict", has_text=RADIOGRAPH.name).wait_for(timeout=60_000)
    taken = {}
    for kind in ("pdf", "png", "json", "json"):
        with page.expect_download(timeout=60_000) as waiting:
            page.locator(f"#download-{kind}").click()
        assert re.fullmatch(rf"pneumo-[0-9a-f]{{12}}\.{kind}", waiting.value.suggested_filename)
        taken[kind] = waiting.value.path().read_bytes()
    record = json.loads(taken["json"])
    assert record["file"] == RADIOGRAPH.name
    assert record["summary"] in words_of(taken["pdf"])
    assert taken["png"] == sheet_png(taken["pdf"])
    page.close()
