"""The page in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from datetime import datetime, timedelta
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import DATA, on_disk, serve

from pneumo.framing import RASTER
from pneumo.radiograph import read_radiograph
from pneumo.render import encode_png
from pneumo.report import percent, probability
from pneumo.ui import sessions
from pneumo.ui.examples import load_examples
from pneumo.ui.views import examination_view

pytestmark = pytest.mark.browser
RADIOGRAPH = DATA / "full_resolution" / "person26_virus_60.jpeg"


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.foreign = []
    page.on("request", lambda request: page.foreign.append(request.url) if not is_local(request.url) else None)
    page.goto(server)
    page.wait_for_selector("#cards .card")
    yield page
    context.close()


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def upload(page, path) -> None:
    page.set_input_files("#upload input[type=file]", path)


def wait_for_answer(page, words: str) -> str:
    page.locator("#verdict", has_text=words).wait_for(timeout=60_000)
    return page.inner_text("#verdict")


def test_first_view_says_what_it_is_and_calls_nobody(page):
    assert "pneumo" in page.title()
    assert "For research and teaching, not for diagnosis." in page.inner_text(".masthead")
    assert page.locator("#cards .card").count() == 3
    assert page.locator("#examples button").count() == len(load_examples())
    assert page.foreign == []


def test_upload_shows_three_networks_with_heatmaps(page):
    upload(page, RADIOGRAPH)
    words = wait_for_answer(page, RADIOGRAPH.name)
    assert "1152 x 720" in words
    cards = page.locator("#cards .card")
    assert cards.locator("h3").all_inner_texts() == ["CNN", "CNN-LSTM", "CNN-RNN"]
    for text in cards.locator(".probability strong").all_inner_texts():
        assert re.fullmatch(r"[<>]? ?\d+(\.\d)? %", text)
    assert set(cards.locator(".decision").all_inner_texts()) <= {"NORMAL", "PNEUMONIA"}
    # At the radiograph's own aspect ratio, whatever the frame's.
    box = page.locator("button.film").first.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1152 / 720, rel=0.02)
    # Each card has a heatmap, or says why not.
    for index in range(3):
        card = cards.nth(index)
        assert card.locator(".heat").count() == 1 or "no heatmap is drawn" in card.inner_text()


def test_opacity_and_switch_act_without_the_server(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    calls = []
    page.on("request", lambda request: calls.append(request.url))
    heat = page.locator(".heat").first
    opacity = "element => getComputedStyle(element).opacity"
    page.locator("#heat-opacity").fill("25")
    assert float(heat.evaluate(opacity)) == pytest.approx(0.25)
    page.uncheck("#show-heat")
    assert not heat.is_visible()
    page.check("#show-heat")
    assert heat.is_visible()
    assert not [url for url in calls if "queue" in url or "run" in url]


def test_operating_point_decides_anew(page, tiny_examiner):
    uploads = []
    page.on("request", lambda request: uploads.append(request.url) if "/upload?" in request.url else None)
    upload(page, RADIOGRAPH)
    wait_for_answer(page, "at the balanced operating point")
    assert len(uploads) == 1
    for value, number in (("screening", "screening"), ("custom", 0.5), ("balanced", "balanced")):
        page.locator(f"#point input[value={value}]").check()
        wait_for_answer(page, f"at the {value} operating point")
        assert_decided(page, tiny_examiner.examine(read_radiograph(RADIOGRAPH), number))
    # The same probability decides both ways.
    page.locator("#point input[value=custom]").check()
    for number in (1, 99):
        page.locator("#point input[type=number]").fill(str(number))
        wait_for_answer(page, f"at the custom operating point of {number}.0")
        assert_decided(page, tiny_examiner.examine(read_radiograph(RADIOGRAPH), number / 100))
    assert len(uploads) == 1


def assert_decided(page, examination) -> None:
    for name, prediction in examination.predictions.items():
        card = page.locator(f'#cards [data-network="{name}"]')
        assert card.locator(".decision").inner_text() == prediction.decision
        assert card.locator(".probability strong").inner_text() == probability(prediction.probability)


def test_operating_point_holds_for_the_next_radiograph(page):
    page.locator("#point input[value=screening]").check()
    assert "Screening: misses fewer pneumonias, more false alarms." in page.inner_text("#point")
    assert not page.locator("#point input[type=number]").is_visible()
    upload(page, RADIOGRAPH)
    wait_for_answer(page, "at the screening operating point")
    page.locator("#examples button").first.click()
    wait_for_answer(page, load_examples()[0].file)
    assert "at the screening operating point" in page.inner_text("#verdict")


def test_operating_point_changes_no_refusal(page):
    content = {"name": "text.png", "mimeType": "image/png", "buffer": b"hello\n"}
    page.set_input_files("#upload input[type=file]", content)
    wait_for_answer(page, "is a text file")
    page.locator("#point input[value=screening]").check()
    page.wait_for_timeout(2000)
    assert "is a text file" in page.inner_text("#verdict")


def test_lungs_are_outlined_without_the_server(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    calls = []
    page.on("request", lambda request: calls.append(request.url))
    outlines = page.locator("#cards .outline")
    assert outlines.count() == 3
    assert not any(outlines.nth(index).is_visible() for index in range(3))
    assert not page.locator(".key").is_visible()
    page.check("#show-lungs")
    assert all(outlines.nth(index).is_visible() for index in range(3))
    assert page.locator(".key").inner_text().split() == ["lungs", "box", "shown", "to", "the", "network"]
    # Over the radiograph, whose aspect ratio is not that of the drawing.
    box = "element => Object.values(element.getBoundingClientRect().toJSON())"
    film, outline = outlines.first.evaluate(f"element => [element.parentElement, element].map({box})")
    assert outline == pytest.approx(film, abs=0.5)
    page.uncheck("#show-heat")
    assert outlines.first.is_visible()
    page.locator("#examples button").first.click()
    wait_for_answer(page, load_examples()[0].file)
    assert outlines.first.is_visible()
    page.uncheck("#show-lungs")
    assert not outlines.first.is_visible()
    assert len([url for url in calls if "queue/join" in url]) == 1


def test_outline_is_that_of_the_lungs(tiny_examiner):
    """The path encloses each lung, and the box lies where the network looked."""
    examination = tiny_examiner.examine(read_radiograph(RADIOGRAPH))
    cards = examination_view(examination).cards
    seen, lungs = re.findall(r'd="([^"]+)"', cards[cards.index('class="outline"') :])[:2]
    drawn = np.zeros((RASTER, RASTER), np.uint8)
    for path in lungs.strip("MZ").split("ZM"):
        points = np.array([point.split() for point in path.split("L")], np.float32)
        cv2.fillPoly(drawn, [np.rint(points - 0.5).astype(np.int32)], 1)
    mask = examination.lungs.mask
    assert 2 * (mask & (drawn > 0)).sum() / (mask.sum() + drawn.sum()) > 0.97
    box = examination.heatmaps["cnn"].box
    expected = [RASTER * edge for edge in (box.left, box.top, box.right, box.bottom, box.left)]
    assert [float(number) for number in re.findall(r"-?\d+\.\d", seen)] == pytest.approx(expected, abs=0.1)


def test_radiograph_without_lungs_warns(page):
    noise = np.random.default_rng(0).normal(128, 12, (300, 400)).clip(0, 255).astype(np.uint8)
    content = {"name": "noise.png", "mimeType": "image/png", "buffer": encode_png(noise)}
    page.set_input_files("#upload input[type=file]", content)
    wait_for_answer(page, "noise.png")
    warning = page.locator("#verdict [role=alert]")
    assert "No lung was found." in warning.inner_text()
    assert "do not rely on this answer" in warning.inner_text()
    assert page.locator("#cards .outline").count() == 0


def test_uncertain_answer_stands_out(browser, bundle_folder, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(bundle_folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["together"]["uncertain"] |= {"low": 0.0, "high": 1.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with serve(folder, tmp_path) as url:
        page = browser.new_page()
        page.goto(url)
        upload(page, RADIOGRAPH)
        words = wait_for_answer(page, RADIOGRAPH.name)
        assert page.locator("#verdict .badge").inner_text() == "? UNCERTAIN"
        assert "Together the networks are uncertain" in words
        # Not by colour alone.
        style = "element => getComputedStyle(element).borderTopStyle"
        assert page.locator("#verdict .verdict").evaluate(style) == "dashed"
        page.close()


def test_unused_page_is_forgotten(browser, bundle_folder, tmp_path):
    code = (
        "from pneumo.ui import interface, sessions\nsessions.LIFETIME, sessions._INTERVAL = 2, 0.2\ninterface.launch()"
    )
    with serve(bundle_folder, tmp_path, code) as url:
        page = browser.new_page()
        page.goto(url)
        upload(page, RADIOGRAPH)
        wait_for_answer(page, RADIOGRAPH.name)
        page.wait_for_timeout(4000)
        page.locator("#point input[value=screening]").check()
        wait_for_answer(page, "This radiograph is no longer kept.")
        upload(page, RADIOGRAPH)
        wait_for_answer(page, "at the screening operating point")
        page.close()


def test_closed_and_unused_sessions_are_dropped():
    now = datetime.now()
    used = {"closed": now, "unused": now - timedelta(seconds=sessions.LIFETIME + 1), "used": now}
    data = {key: SimpleNamespace(is_closed=key == "closed") for key in used}
    sessions.forget(SimpleNamespace(session_data=data, time_last_used=used))
    assert data.keys() == used.keys() == {"used"}


def test_every_example_is_answered_with_its_label(page):
    for index, example in enumerate(load_examples()):
        page.locator("#examples button").nth(index).click()
        assert example.label in wait_for_answer(page, example.file)


ILL = {
    "text.png": (b"hello\n", "is a text file"),
    "empty.png": (b"", "is empty"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
    "moving.gif": (b"GIF89a" + bytes(32), "is a GIF"),
    "cut.jpeg": (RADIOGRAPH.read_bytes()[:20_000], "truncated or damaged"),
    "<img src=x onerror=alert(1)>.png": (b"hello\n", "is a text file"),
}


@pytest.mark.parametrize("name", ILL)
def test_refused_file_is_explained_and_the_next_one_read(page, name):
    content, reason = ILL[name]
    page.set_input_files("#upload input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})
    words = wait_for_answer(page, reason)
    assert "This file was not read." in words
    assert "Traceback" not in page.content()
    assert page.locator("#verdict img").count() == 0
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)


def test_too_large_a_file_is_refused(page, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(65 * 2**20))
    upload(page, path)
    page.locator(".toast-body", has_text="maximum allowed size").wait_for()


def test_an_image_can_be_pasted(page):
    page.evaluate(
        """content => {
          const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
          const clipboard = new DataTransfer();
          clipboard.items.add(new File([bytes], "pasted.jpeg", { type: "image/jpeg" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: clipboard, bubbles: true }));
        }""",
        base64.b64encode(RADIOGRAPH.read_bytes()).decode(),
    )
    wait_for_answer(page, "pasted.jpeg")


def test_keyboard_reads_an_example(page):
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    wait_for_answer(page, load_examples()[0].file)


def test_page_says_what_the_numbers_mean(page):
    words = page.inner_text("#answer").replace("\xa0", " ")
    assert "are calibrated on held-out radiographs" in words
    assert "where it is rarer, they overstate it" in words
    assert "not calibrated" not in page.content()


def test_numbers_tab_has_operating_points(page, tiny_examiner):
    page.get_by_role("tab", name="The numbers").click()
    page.locator(".points").wait_for(timeout=60_000)
    rows = [row.split("\t") for row in page.locator(".points").inner_text().splitlines() if row.strip()]
    bundle = tiny_examiner.bundle
    points = [*(network.thresholds for network in bundle.networks.values()), bundle.consensus.thresholds]
    assert [row[1:] for row in rows[1:]] == [[percent(value) for value in item.values()] for item in points]


def test_numbers_tab_has_intervals_and_floors(page):
    page.get_by_role("tab", name="The numbers").click()
    page.locator(".numbers").first.wait_for(timeout=60_000)
    text = page.locator(".numbers").first.inner_text()
    assert "floor: " in text
    assert re.search(r"\[0\.\d{3}, \d\.\d{3}\]", text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1366, 768), (390, 844), (320, 640)])
def test_nothing_overflows(browser, server, size, scheme):
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server)
    page.locator("#examples button").first.click()
    wait_for_answer(page, load_examples()[0].file)
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(width) == 0
    page.check("#show-lungs")
    page.locator("#point input[value=custom]").check()
    assert page.evaluate(width) == 0
    page.get_by_role("tab", name="The numbers").click()
    page.locator(".numbers").first.wait_for()
    assert page.evaluate(width) == 0
    context.close()


@pytest.mark.parametrize("size", [(1366, 768), (390, 844)])
def test_nothing_jumps_when_the_answer_comes(browser, server, size, tmp_path):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(server)
    page.locator(".tools").wait_for()

    def places() -> list[float]:
        script = "element => element.getBoundingClientRect().top + window.scrollY"
        return [page.locator(selector).evaluate(script) for selector in (".tools", "#cards", "#examples")]

    before: list[float] = []
    # On a busy machine the page is still being laid out when the tools are there.
    while (found := places()) != before:
        before = found
        page.wait_for_timeout(500)
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    assert places() == pytest.approx(before, abs=1)
    (tmp_path / "text.png").write_text("no image")
    upload(page, tmp_path / "text.png")
    wait_for_answer(page, "is a text file")
    assert places() == pytest.approx(before, abs=1)
    page.close()


def test_radiograph_is_enlarged_by_keyboard(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    page.locator("button.film").first.focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.fullscreenElement !== null")


def test_uploads_do_not_stay(browser, bundle_folder, tmp_path):
    code = "from pneumo.ui import interface; interface.UPLOAD_LIFETIME = 1; interface.launch()"
    with serve(bundle_folder, tmp_path, code) as url:
        page = browser.new_page()
        page.goto(url)
        upload(page, RADIOGRAPH)
        wait_for_answer(page, RADIOGRAPH.name)
        for _ in range(100):
            if RADIOGRAPH.name not in {path.name for path in on_disk(tmp_path)}:
                break
            time.sleep(0.1)
        assert RADIOGRAPH.name not in {path.name for path in on_disk(tmp_path)}
        page.close()


def test_missing_networks_are_said_on_the_page(browser, tmp_path):
    with serve(tmp_path / "nothing", tmp_path) as url:
        page = browser.new_page()
        page.goto(url)
        upload(page, RADIOGRAPH)
        words = wait_for_answer(page, "A bundle must be a folder")
        assert "The networks could not be loaded." in words
        page.get_by_role("tab", name="The numbers").click()
        page.locator(".refused", has_text="A bundle must be a folder").last.wait_for()
        assert "Traceback" not in words + (tmp_path / "server.log").read_text()
        page.close()


# --- explanations -----------------------------------------------------------------------------------------------


def choose(page, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_method_and_class_are_chosen(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    choose(page, "Saliency method", "LayerCAM, three blocks")
    page.locator("#cards", has_text="LayerCAM, three blocks for").wait_for(timeout=60_000)
    for target in ("NORMAL", "PNEUMONIA"):
        choose(page, "Class explained", target)
        page.locator(f'#cards .film[aria-label*="three blocks for {target}"]').first.wait_for(
            state="attached", timeout=60_000
        )
        assert page.locator("#cards .card [data-network], #cards .heat").count() <= 3


def test_hottest_zone_is_covered_and_uncovered(page, tiny_examiner):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    page.locator("#cover").click()
    page.locator("#cards .covering").first.wait_for(timeout=60_000)
    found = tiny_examiner.examine(read_radiograph(RADIOGRAPH), cover="hottest")
    words = [text.replace("\N{NO-BREAK SPACE}", " ") for text in page.locator("#cards .covering").all_inner_texts()]
    assert words == [covering.words for covering in found.coverings.values()]
    assert page.locator("#cards .covered").count() == len(words)
    page.locator("#uncover").click()
    page.locator("#cards .covering").first.wait_for(state="detached", timeout=60_000)


def test_painted_region_is_covered(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    page.locator("#paint").check()
    film = page.locator("#cards button.film").nth(1).bounding_box()
    page.mouse.move(film["x"] + film["width"] * 0.3, film["y"] + film["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(film["x"] + film["width"] * 0.4, film["y"] + film["height"] * 0.6, steps=5)
    page.mouse.up()
    page.locator("#cards .covering").first.wait_for(timeout=60_000)
    texts = page.locator("#cards .covering").all_inner_texts()
    assert len(texts) == 3
    assert all("painted region covered" in text for text in texts)
    assert page.evaluate("document.fullscreenElement === null")


def test_painting_over_all_of_it_is_refused_and_loses_nothing(page):
    upload(page, RADIOGRAPH)
    before = wait_for_answer(page, RADIOGRAPH.name)
    page.locator("#paint").check()
    film = page.locator("#cards button.film").first.bounding_box()
    page.mouse.move(film["x"] + 1, film["y"] + 1)
    page.mouse.down()
    for row in range(25):
        y = film["y"] + film["height"] * row / 24
        for x in (film["x"] + 1, film["x"] + film["width"] - 1)[:: 1 if row % 2 else -1]:
            page.mouse.move(x, y)
    page.mouse.up()
    page.get_by_text("cover at most 50 % of it").wait_for(timeout=60_000)
    assert page.inner_text("#verdict") == before
    # The refused stroke is forgotten: a small one is covered.
    page.wait_for_timeout(500)
    page.mouse.move(film["x"] + film["width"] / 2, film["y"] + film["height"] / 2)
    page.mouse.down()
    page.mouse.move(film["x"] + film["width"] / 2 + 20, film["y"] + film["height"] / 2)
    page.mouse.up()
    page.locator("#cards .covering", has_text="painted region covered").first.wait_for(timeout=60_000)
    page.locator("#cover").click()
    page.locator("#cards .covering").first.wait_for(timeout=60_000)


def test_view_is_changed_without_the_server(page):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    calls = []
    page.on("request", lambda request: calls.append(request.url))
    heat, contour, plain = (page.locator(f"#cards {kind}").first for kind in (".heat", ".contour", ".plain"))
    assert (heat.is_visible(), contour.is_visible(), plain.is_visible()) == (True, False, False)
    page.locator("#view").select_option("contour")
    assert (heat.is_visible(), plain.is_visible()) == (False, False)
    assert contour.evaluate("element => getComputedStyle(element).visibility") == "visible"
    page.locator("#view").select_option("beside")
    assert (heat.is_visible(), plain.is_visible()) == (True, True)
    box, other = plain.bounding_box(), page.locator("#cards button.film").first.bounding_box()
    assert box["width"] == pytest.approx(other["width"], abs=1)
    assert box["x"] + box["width"] <= other["x"] + 1
    assert not [url for url in calls if "queue" in url or "run" in url]


def test_evidence_by_zone_is_in_a_table(page, tiny_examiner):
    upload(page, RADIOGRAPH)
    wait_for_answer(page, RADIOGRAPH.name)
    found = tiny_examiner.examine(read_radiograph(RADIOGRAPH))
    for name, evidence in found.heat_evidence.items():
        table = page.locator(f'#cards [data-network="{name}"] details')
        assert table.count() == (1 if evidence else 0)
        if evidence:
            table.locator("summary").click()
            cells = [text.replace("\N{NO-BREAK SPACE}", " ") for text in table.locator("td").all_inner_texts()]
            rows = [f"{side}_{height}" for height in ("upper", "middle", "lower") for side in ("right", "left")]
            expected = [percent(evidence.zones[zone], 0) for zone in rows]
            assert cells == [*expected, percent(1 - evidence.share_in_lungs, 0)]


def test_networks_that_learnt_nothing_are_shown_beside(page):
    page.locator("button", has_text="Sanity check").click()
    page.locator("#compare").click()
    page.get_by_text("add a chest X-ray, first").wait_for(timeout=60_000)
    page.locator("#examples button").first.click()
    wait_for_answer(page, load_examples()[0].file)
    page.locator("#compare").click()
    page.locator("#sanity .card").first.wait_for(timeout=60_000)
    assert page.locator("#sanity .card").count() == 3
    for text in page.locator("#sanity .quiet").all_inner_texts():
        assert "Rank correlation" in text or "nothing to compare" in text
