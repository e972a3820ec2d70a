"""DICOM and several files on the page and through the API, with the networks that ship; and that nobody is named."""

import csv
import json
import re
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, serve
from dicom_files import PLANTED, dicom_file
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pneumo.errors import BundleError
from pneumo.intake import sources_of_uploads
from pneumo.radiograph import read_radiograph
from pneumo.ui import batch


@pytest.fixture(scope="module")
def pixels(images):
    return read_radiograph(images / "test" / "PNEUMONIA" / "person122_bacteria_582.jpeg").pixels


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("batch")


@pytest.fixture(scope="module")
def address(place):
    """The page with the networks that ship; everything that it writes lies below `place`."""
    with serve(ROOT / "models", place, HOME=str(place), TMPDIR=str(place), XDG_CACHE_HOME=str(place)) as url:
        yield url


@pytest.fixture
def page(address, browser):
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()


def assert_nobody_is_named(place: Path, *texts: str) -> None:
    written = {str(path.relative_to(place)): path for path in place.rglob("*")}
    texts += (*written, *(path.read_bytes().decode("latin-1") for path in written.values() if path.is_file()))
    for planted in PLANTED:
        assert not any(planted in text for text in texts)


def give(page, *files: Path | dict) -> None:
    page.set_input_files("#upload input[type=file]", list(files))


def dcm(name: str, content: bytes) -> dict:
    return {"name": name, "mimeType": "application/dicom", "buffer": content}


@pytest.mark.browser
def test_dicom_on_the_page(page, place, pixels):
    seen = []
    page.on("response", lambda response: seen.append(response.url))
    give(page, dcm("PLANTED_NAME.dcm", dicom_file(pixels, "JPEG-LS", ViewPosition="LL", PatientAge="064Y")))
    name = page.locator("#verdict .radiograph", has_text="DICOM").inner_text(timeout=90_000)
    assert re.match(
        r"DICOM [0-9a-f]{8}, \d+ x \d+ pixels. DICOM header: modality CR, body part chest, view left lateral, "
        "age 18 years or more",
        name,
    )
    warnings = page.locator("#verdict .warning").all_inner_texts()
    assert len(warnings) == 2
    assert "left lateral view" in warnings[0]
    assert "children of one to five years" in warnings[1]
    with page.expect_download() as download:
        page.get_by_text("This picture as DICOM").first.click()
    assert download.value.suggested_filename.startswith("DICOM ")
    capture = Path(download.value.path()).read_bytes()
    assert capture[128:132] == b"DICM"
    # Another operating point is decided from the picture that was kept.
    page.get_by_label("Screening").check()
    page.locator("#verdict", has_text="screening operating point").wait_for(timeout=60_000)
    assert_nobody_is_named(place, page.content(), capture.decode("latin-1"), *seen)
    give(page, dcm("PLANTED_LEG.dcm", dicom_file(pixels, BodyPartExamined="LEG")))
    page.locator("#verdict", has_text="is a radiograph of a leg").wait_for(timeout=60_000)
    assert_nobody_is_named(place, page.content())


def test_dicom_through_the_api(address, place, pixels, tmp_path, examiner):
    path = tmp_path / "PLANTED_NAME.dcm"
    path.write_bytes(dicom_file(pixels, "deflated", PatientAge="030Y"))
    client = Client(address, verbose=False)
    answer = client.predict(handle_file(path), api_name="/examine")
    assert answer == examiner.examine(read_radiograph(path)).record()
    path.write_bytes(dicom_file(pixels, Modality="CT"))
    with pytest.raises(AppError, match="is a CT") as refused:
        client.predict(handle_file(path), api_name="/examine")
    assert_nobody_is_named(place, json.dumps(answer), str(refused.value))


def test_upload_is_on_the_disk_until_it_is_read(address, place, pixels):
    """Under no name, in no folder of another's, and not in the answer to the next who sends the same."""
    import httpx

    data = dicom_file(pixels, StudyDescription=None)
    sent = {"files": ("PLANTED_NAME.dcm", data)}
    first, second = (httpx.post(f"{address}/gradio_api/upload", files=sent).json()[0] for _ in range(2))
    assert first != second
    assert {Path(first).name, Path(second).name} == {"upload"}
    assert Path(first).exists()
    for uploaded in (first, second):
        file = {"path": uploaded, "orig_name": "PLANTED_NAME.dcm", "meta": {"_type": "gradio.FileData"}}
        event = httpx.post(f"{address}/gradio_api/call/examine", json={"data": [file]}).json()["event_id"]
        answer = httpx.get(f"{address}/gradio_api/call/examine/{event}", timeout=60).text
        assert answer.startswith("event: complete")
        assert not Path(uploaded).parent.exists()
    assert_nobody_is_named(place, answer)


@pytest.mark.browser
def test_several_files_on_the_page(page, place, images, pixels, tmp_path):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with zipfile.ZipFile(tmp_path / "PLANTED.zip", "w") as archive:
        for path in sorted((images / "test" / "NORMAL").iterdir()):
            archive.write(path, path.name)
        archive.writestr("IM0001", dicom_file(pixels, "RLE"))
        archive.writestr("<b>broken</b>.png", b"\x89PNG\r\n\x1a\n")
    (tmp_path / "PLANTED_LEG.dcm").write_bytes(dicom_file(pixels, BodyPartExamined="LEG"))
    (tmp_path / "=1+1.jpeg").write_bytes((images / "test" / "NORMAL" / "IM-0005-0001.jpeg").read_bytes())
    give(page, *sorted(tmp_path.iterdir()))
    page.locator("#verdict h2", has_text="11 files: 9 answered, 2 refused.").wait_for(timeout=90_000)
    rows = page.locator("#cards tbody tr")
    assert rows.count() == 11
    assert page.locator("#explanation").is_hidden()
    refused = page.locator("#cards tr.refused").all_inner_texts()
    assert any("is a radiograph of a leg" in row for row in refused)
    assert any("<b>broken</b>.png is truncated or damaged" in row for row in refused)

    page.get_by_role("button", name="Together").click()
    column = [row.locator("td").nth(4).get_attribute("data-key") for row in rows.all()]
    assert column[-2:] == ["", ""]
    assert column[:-2] == sorted(column[:-2])
    page.get_by_role("button", name="Together").press("Enter")
    falling = [row.locator("td").nth(4).get_attribute("data-key") for row in rows.all()]
    assert falling[:-2] == column[:-2][::-1]
    assert page.locator("#cards th[aria-sort=descending]").inner_text().startswith("Together")
    page.get_by_role("button", name="No.").click()
    assert [row.locator("td").first.inner_text() for row in rows.all()] == [str(number) for number in range(1, 12)]

    with page.expect_download() as download:
        page.get_by_text("Download the table as CSV").click()
    table = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert len(table) == 11
    assert table[0]["file"] == "'=1+1.jpeg"
    assert sum(bool(row["error"]) for row in table) == 2
    normal = next(row for row in table if row["file"] == "IM-0005-0001.jpeg")
    assert normal["together.decision"] == "NORMAL"
    assert {key: normal[key] for key in normal if key != "file"} == {
        key: table[0][key] for key in normal if key != "file"
    }
    assert errors == []
    assert_nobody_is_named(place, page.content(), *(str(row) for row in table))


def test_table_fills(images, examiner):
    """Each state sent holds what was examined so far, and a batch that is too long is refused at its end."""
    content = (images / "test" / "NORMAL" / "IM-0081-0001.jpeg").read_bytes()
    sources = sources_of_uploads([("a.jpeg", content), ("b.txt", b"text"), ("c.jpeg", content)])
    states = [len(rows) for rows in map(list, batch.examine_all(sources, examiner.examine, interval=0))]
    assert states == [1, 2, 3, 3]
    (rows,) = batch.examine_all(sources_of_uploads([("a.jpeg", content), ("b.txt", b"text")]), examiner.examine, 60)
    words = batch.batch_view(rows, 2, "balanced").verdict
    assert "2 files: 1 answered, 1 refused." in words
    assert "Together the networks call pneumonia in 0 of 1, at the balanced operating point." in words
    mean = rows[0].predictions["together"]
    assert mean.uncertain, "else another of the shipped radiographs is to be taken"
    assert f"{100 * mean.probability:.1f}&nbsp;%, uncertain" in batch.batch_view(rows, 2, "balanced").cards
    words = batch.batch_view(rows, 3, 0.25).verdict
    assert "Reading file 3 of 3: 1 answered, 1 refused so far." in words
    assert "an operating point of 25.0 %" in words
    assert "CSV" not in words


def test_batch_that_is_too_long(monkeypatch, examiner):
    monkeypatch.setattr(batch, "MAX_FILES", 1)
    uploads = [(f"{number}.txt", b"text") for number in range(3)]
    (rows,) = batch.examine_all(sources_of_uploads(uploads), examiner.examine, 60)
    assert [row.notes[0].startswith("A batch may have at most 1 files.") for row in rows] == [False, True, True]


def test_networks_that_cannot_be_loaded_end_a_batch(images):
    def examine(_radiograph):
        raise BundleError("They are missing.")

    content = (images / "test" / "NORMAL" / "IM-0005-0001.jpeg").read_bytes()
    with pytest.raises(BundleError):
        list(batch.examine_all(sources_of_uploads([("a.jpeg", content)]), examine))
