"""The teaching room in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import zipfile
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode, urlsplit

import cv2
import numpy as np
import pytest
from conftest import serve
from sklearn import metrics as sk

from pneumo.cases import CASES
from pneumo.framing import RASTER, Box
from pneumo.lungs import Lungs, lungs_of
from pneumo.render import heat_rgba
from pneumo.saliency import Heatmap
from pneumo.ui.examples import load_examples
from training.metrics import wilson_interval

pytestmark = pytest.mark.browser
NETWORKS = ("cnn", "cnn_lstm", "cnn_rnn")
NAMES = (*NETWORKS, "together")
TITLES = {"cnn": "CNN", "cnn_lstm": "CNN-LSTM", "cnn_rnn": "CNN-RNN", "together": "mean of the networks"}
DESK, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}
SLIDER = "Operating point: calls pneumonia from"
PREVALENCE = "Prevalence: of all children examined, have pneumonia"
SET = {"seed": "7", "count": "10", "mix": "balanced"}


@pytest.fixture(scope="module")
def rows(bundle_folder) -> list[dict]:
    """What predictions.csv says of each case."""
    with (bundle_folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [
            {
                "id": Path(line["file"]).stem,
                "file": line["file"],
                "label": line["label"],
                "subtype": line["subtype"],
                **{name: float(line[name]) for name in NAMES},
            }
            for line in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def thresholds(bundle_folder) -> dict[tuple[str, str], float]:
    """By network and operating point."""
    content = json.loads((bundle_folder / "manifest.json").read_text(encoding="utf-8"))
    entries = content["networks"] | {"together": content["together"]}
    points = ("balanced", "screening")
    return {(name, point): entries[name]["operating_points"][point]["threshold"] for name in NAMES for point in points}


@pytest.fixture(scope="module")
def metrics(bundle_folder) -> dict:
    return json.loads((bundle_folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def members(bundle_folder) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle_folder / CASES) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def lungs(masks, rows) -> dict[str, Lungs]:
    """The lungs that people drew, by case."""
    paths = {row["id"]: masks / Path(row["file"]).with_suffix(".png") for row in rows}
    return {name: lungs_of(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) >= 128) for name, path in paths.items()}


@pytest.fixture(scope="module")
def context(browser):
    """One cache for the pages of all tests."""
    context = browser.new_context(viewport=DESK)
    yield context
    context.close()


@pytest.fixture
def page(context):
    page = watched(context.new_page())
    yield page
    page.close()
    assert_quiet(page)


def new_page(browser, viewport=DESK):
    """A page of another visitor."""
    return watched(browser.new_context(viewport=viewport).new_page())


def watched(page):
    page.calls, page.faults = [], []
    page.on("request", lambda call: page.calls.append(call))
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    return page


def close(page) -> None:
    page.context.close()
    assert_quiet(page)


def assert_quiet(page) -> None:
    """Nobody else was called, and no script failed."""
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    assert [call.url for call in page.calls if not call.url.startswith(local)] == []
    assert page.faults == []


def visit(page, server: str, room: str = "cases", **state: str):
    """A room by its address; what it shows."""
    return follow(page, f"{server}/?{urlencode({'room': room, **state})}")


def follow(page, url: str):
    """A shared link."""
    page.goto(url)
    return shown(page, dict(parse_qsl(urlsplit(url).query))["room"])


def shown(page, room: str):
    content = page.locator(f".t-room > .t-{room}")
    content.wait_for()
    return content


def await_address(page, **state: str) -> None:
    page.wait_for_function(
        """want => JSON.stringify([...new URLSearchParams(location.search)].sort()) === want""",
        arg=json.dumps(sorted([name, value] for name, value in state.items()), separators=(",", ":")),
    )


def field(page, label: str):
    """A control of the room; other tabs have some of the same name."""
    return page.locator(".teach").get_by_label(label, exact=True)


def plain(text: str) -> str:
    return " ".join(text.split())


def texts(locator) -> list[str]:
    return [plain(text) for text in locator.all_inner_texts()]


def cells(page, caption: str) -> list[list[str]]:
    """The body of a table, row by row."""
    rows = page.get_by_role("region", name=caption).locator("tbody tr")
    found = rows.evaluate_all("rows => rows.map(row => [...row.children].map(cell => cell.innerText))")
    return [[plain(text) for text in row] for row in found]


def fixed(value: float, digits: int) -> str:
    """As JavaScript rounds."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def percent(share: float, digits: int = 1) -> str:
    return f"{fixed(share * 100, digits)} %" if np.isfinite(share) else "\N{EN DASH}"


def probability(value: float) -> str:
    if value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.999 else percent(value)


def with_wilson(count: int, total: int) -> str:
    if not total:
        return "\N{EN DASH}"
    low, high = (fixed(edge * 100, 1) for edge in wilson_interval(count, total))
    return f"{percent(count / total)} [{low}, {high}]"


def saved(page, button) -> list[dict[str, str]]:
    """The rows of a CSV that a button saves."""
    with page.expect_download() as download:
        button.click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


# --- case library -----------------------------------------------------------------------------------------------

FIELDS = {
    "outcome": "Outcome",
    "network": "Network",
    "point": "Operating point",
    "wrong": "Wrong among the three",
    "subtype": "Label",
    "sure": "How sure",
    "sort": "Order",
}
DEFAULTS = dict.fromkeys(FIELDS, "") | {
    "outcome": "missed",
    "network": "together",
    "point": "balanced",
    "sort": "wrong",
}


def outcome(row: dict, name: str, threshold: float) -> str:
    if (row[name] >= threshold) == (row["label"] == "PNEUMONIA"):
        return "correct"
    return "missed" if row["label"] == "PNEUMONIA" else "alarm"


def wrong_networks(row: dict, thresholds: dict, point: str) -> int:
    return sum(outcome(row, name, thresholds[name, point]) != "correct" for name in NETWORKS)


def filtered(rows: list[dict], thresholds: dict, **changes: str) -> list[str]:
    wanted = DEFAULTS | changes
    name, point = wanted["network"], wanted["point"]
    cut = thresholds[name, point]
    kept = [
        row
        for row in rows
        if wanted["outcome"] in ("all", outcome(row, name, cut))
        and wanted["wrong"] in ("", str(wrong_networks(row, thresholds, point)))
        and wanted["subtype"] in ("", row["subtype"] or "none")
        and wanted["sure"] in ("", "low" if 0.1 <= row[name] < 0.9 else "high")
    ]
    mistake = {row["id"]: 1 - row[name] if row["label"] == "PNEUMONIA" else row[name] for row in rows}
    order = {
        "wrong": lambda row: (-mistake[row["id"]], row["id"]),
        "right": lambda row: (mistake[row["id"]], row["id"]),
        "near": lambda row: (abs(row[name] - cut), row["id"]),
        "name": lambda row: row["id"],
    }
    return [row["id"] for row in sorted(kept, key=order[wanted["sort"]])]


def cards(page) -> list[str]:
    """The cases that are shown, in order."""
    case = "links => links.map(link => new URL(link.href).searchParams.get('case'))"
    return page.locator(".t-grid .t-case").evaluate_all(case)


def test_filters_change_cards_count_and_address(page, server, rows, thresholds):
    visit(page, server)
    found, chosen = set(), DEFAULTS
    for changes in (
        {},
        {"outcome": "alarm"},
        {"outcome": "correct", "sort": "right"},
        {"outcome": "all", "sort": "near"},
        {"outcome": "all", "sort": "name", "point": "screening"},
        {"outcome": "all", "subtype": "virus"},
        {"outcome": "all", "subtype": "none", "network": "cnn"},
        {"outcome": "missed", "network": "cnn_rnn", "point": "screening"},
        {"outcome": "all", "wrong": "1"},
        {"outcome": "all", "wrong": "0", "network": "cnn_lstm", "sort": "right"},
        {"outcome": "all", "sure": "low"},
        {"outcome": "all", "sure": "high"},
    ):
        for name, value in (DEFAULTS | changes).items():
            if value != chosen[name]:
                field(page, FIELDS[name]).select_option(value)
        chosen = DEFAULTS | changes
        expected = filtered(rows, thresholds, **changes)
        assert cards(page) == expected, changes
        words = f"{len(expected)} of the {len(rows)} official test images" if expected else "No test image fits"
        assert page.get_by_role("status").filter(has_text=words).count() == 1
        await_address(page, room="cases", **{name: v for name, v in changes.items() if v != DEFAULTS[name]})
        found.add(tuple(expected))
    assert len(found) > 8


def test_card_says_what_the_networks_made_of_it(page, server, rows, thresholds):
    visit(page, server, outcome="all", sort="name", network="cnn")
    badges = {"missed": "\N{MULTIPLICATION X} missed", "alarm": "\N{WARNING SIGN} false alarm"}
    subtypes = {"": "normal", "bacteria": "pneumonia, bacterial", "virus": "pneumonia, viral"}
    numbers = ("none", "one", "two", "all three")
    for card, row in zip(page.locator(".t-case").all(), sorted(rows, key=lambda row: row["id"]), strict=True):
        assert texts(card.locator("strong, span")) == [
            badges.get(outcome(row, "cnn", thresholds["cnn", "balanced"]), "\N{CHECK MARK} correct"),
            subtypes[row["subtype"]],
            f"{probability(row['cnn'])}; wrong: {numbers[wrong_networks(row, thresholds, 'balanced')]}",
        ]


def test_case_opens_with_all_that_is_known(page, server, rows, thresholds, members):
    visit(page, server, outcome="all", subtype="bacteria", sort="name")
    row = next(row for row in rows if row["subtype"] == "bacteria")
    page.locator(".t-case").first.click()
    page.get_by_role("heading", name=row["id"]).wait_for()
    text = plain(page.inner_text(".t-cases"))
    assert (
        f"Label of the data set: pneumonia, bacterial. Mean of the networks: {probability(row['together'])}, " in text
    )
    numbers = ("none", "one", "two", "all three")
    wrong = numbers[wrong_networks(row, thresholds, "balanced")]
    assert f"Wrong among the three at the balanced operating point: {wrong}." in text
    assert "Outline: lungs as people drew them." in text
    assert page.locator(".t-film").count() == page.locator(".t-outline").count() == 4
    page.wait_for_function("[...document.querySelectorAll('.t-film img')].every(img => img.naturalWidth === 224)")
    detail = json.loads(members[f"{row['id']}.json"])
    for name in NETWORKS:
        card, cut = page.locator(f'[data-network="{name}"]'), thresholds[name, "balanced"]
        decision = "PNEUMONIA" if row[name] >= cut else "NORMAL"
        assert card.locator("h3").inner_text() == TITLES[name]
        assert card.locator(".decision").inner_text() == decision
        assert texts(card.locator(".probability strong")) == [probability(row[name])]
        verdict = "\N{CHECK MARK} as labelled" if decision == row["label"] else "\N{MULTIPLICATION X} missed"
        map_ = detail["maps"][name][decision]
        assert texts(card.locator(".quiet")) == [
            f"{verdict}; calls pneumonia from {percent(cut)}.",
            f"Heat for {decision}: {plain(map_['evidence']['words'])}",
        ]
        assert card.locator(".t-heat").count() == (1 if map_["values"] else 0)
        if map_["values"]:
            assert_drawn_as_by_the_program(card.locator(".t-heat"), map_)


def assert_drawn_as_by_the_program(canvas, stored: dict) -> None:
    content = base64.b64decode(canvas.evaluate("canvas => canvas.toDataURL('image/png')").split(",")[1])
    drawn = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).astype(int)
    levels = np.frombuffer(base64.b64decode(stored["values"]), np.uint8).reshape(stored["shape"])
    heatmap = Heatmap("", "", levels.astype(np.float32) / 255, Box(*stored["box"]), 1.0)
    expected = cv2.cvtColor(heat_rgba(heatmap, RASTER, RASTER), cv2.COLOR_RGBA2BGRA).astype(int)
    assert np.abs(drawn[..., 3] - expected[..., 3]).max() <= 4
    opaque = expected[..., 3] > 200
    assert np.abs(drawn - expected)[opaque].max(initial=0) <= 8


def test_outline_is_that_of_the_lungs(page, server, lungs):
    visit(page, server, case="IM-0005-0001")
    paths = page.locator(".t-outline").first.locator(".line path").evaluate_all("all => all.map(p => p.outerHTML)")
    for path, lung in zip(paths, (lungs["IM-0005-0001"].right, lungs["IM-0005-0001"].left), strict=True):
        points = np.array([point.split() for point in re.search(r'd="M([^Z]+)Z"', path)[1].split("L")], np.float32)
        inside = cv2.fillPoly(np.zeros((RASTER, RASTER), np.uint8), [np.rint(points - 0.5).astype(np.int32)], 1) > 0
        assert 2 * (inside & lung).sum() / (inside.sum() + lung.sum()) > 0.97


def test_cases_are_gone_through(page, server, rows, thresholds):
    visit(page, server, outcome="all", sort="name")
    order = sorted(row["id"] for row in rows)
    assert cards(page) == order
    page.locator(".t-case").nth(1).click()
    heading = page.locator(".t-cases h2")
    page.get_by_role("heading", name=order[1]).wait_for()
    assert page.get_by_text(f"2 of {len(order)}", exact=True).count() == 1
    page.get_by_role("link", name="Next", exact=True).click()
    page.get_by_role("heading", name=order[2]).wait_for()
    await_address(page, room="cases", outcome="all", sort="name", case=order[2])
    for key, number in (("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowLeft", 0)):
        page.wait_for_function("document.activeElement.matches('.t-cases')")
        page.keyboard.press(key)
        page.get_by_role("heading", name=order[number]).wait_for()
    assert page.get_by_role("link", name="Previous", exact=True).count() == 0
    page.get_by_role("link", name="Next", exact=True).click()
    page.get_by_role("heading", name=order[1]).wait_for()
    page.get_by_role("link", name="Previous", exact=True).click()
    page.get_by_role("heading", name=order[0]).wait_for()
    page.go_back()
    page.get_by_role("heading", name=order[1]).wait_for()
    page.get_by_role("link", name="All cases").click()
    page.get_by_role("heading", name="Every official test image").wait_for()
    assert cards(page) == order
    page.go_back()
    page.get_by_role("heading", name=order[1]).wait_for()
    assert heading.inner_text() == order[1]


def test_back_leads_from_a_case_to_the_gallery(page, server, rows, thresholds):
    visit(page, server, outcome="correct", network="cnn")
    before = cards(page)
    assert before == filtered(rows, thresholds, outcome="correct", network="cnn")
    page.locator(".t-case").last.click()
    page.get_by_role("heading", name=before[-1]).wait_for()
    page.go_back()
    page.locator(".t-grid").wait_for()
    assert cards(page) == before
    page.go_forward()
    page.get_by_role("heading", name=before[-1]).wait_for()


def test_link_to_a_filter_opens_the_same_elsewhere(page, browser, server):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, server)
    for name, value in (("outcome", "all"), ("network", "cnn"), ("sort", "near")):
        field(page, FIELDS[name]).select_option(value)
    await_address(page, room="cases", outcome="all", network="cnn", sort="near")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    other = new_page(browser)
    follow(other, link)
    assert cards(other) == cards(page)
    chosen = {name: field(other, label).input_value() for name, label in FIELDS.items()}
    assert chosen == DEFAULTS | {"outcome": "all", "network": "cnn", "sort": "near"}
    close(other)


def test_link_to_a_case_opens_the_same_elsewhere(page, browser, server, rows, thresholds):
    visit(page, server, outcome="all", point="screening", sort="right")
    name = filtered(rows, thresholds, outcome="all", point="screening", sort="right")[3]
    page.locator(".t-case").nth(3).click()
    page.get_by_role("heading", name=name).wait_for()
    other = new_page(browser)
    follow(other, page.url)
    other.get_by_role("heading", name=name).wait_for()
    assert other.inner_text(".t-cases") == page.inner_text(".t-cases")
    assert other.get_by_text("at the screening operating point").count() == 1
    close(other)


def test_heat_and_outline_are_switched(page, server, rows):
    visit(page, server, case=rows[0]["id"])
    heat, outline = page.locator(".t-heat").first, page.locator(".t-outline").nth(1)
    assert (heat.is_visible(), outline.is_visible()) == (True, True)
    field(page, "Heatmap").uncheck()
    assert (heat.is_visible(), outline.is_visible()) == (False, True)
    field(page, "Lung outline").uncheck()
    assert (heat.is_visible(), outline.is_visible()) == (False, False)
    field(page, "Heatmap").check()
    assert (heat.is_visible(), outline.is_visible()) == (True, False)
    field(page, "Lung outline").check()
    assert outline.is_visible()


def test_opacity_stays_from_case_to_case(page, server, rows):
    visit(page, server, outcome="all", case=rows[0]["id"])
    opacity = "element => Number(getComputedStyle(element).opacity)"
    assert page.locator(".t-heat").first.evaluate(opacity) == pytest.approx(0.7)
    field(page, "Opacity of the heat").fill("25")
    assert page.locator(".t-heat").first.evaluate(opacity) == pytest.approx(0.25)
    page.get_by_role("link", name=re.compile("Next|Previous")).first.click()
    page.get_by_role("heading", name=rows[0]["id"]).wait_for(state="detached")
    assert page.locator(".t-heat").first.evaluate(opacity) == pytest.approx(0.25)
    assert field(page, "Opacity of the heat").input_value() == "25"


def test_evidence_for_the_other_class_is_shown(page, server, rows, members):
    name = rows[0]["id"]
    visit(page, server, case=name)
    maps = json.loads(members[f"{name}.json"])["maps"]
    for target in ("PNEUMONIA", "NORMAL"):
        page.get_by_role("radio", name=target, exact=True).check()
        for network in NETWORKS:
            card, words = page.locator(f'[data-network="{network}"]'), maps[network][target]["evidence"]["words"]
            assert plain(card.locator(".quiet").last.inner_text()) == f"Heat for {target}: {plain(words)}"
            assert card.locator("img").get_attribute("alt").endswith(f": evidence for {target}. {words}")
    decided = page.locator('[data-network="cnn"] .decision').inner_text()
    page.get_by_role("radio", name="its decision").check()
    assert f"Heat for {decided}: " in page.inner_text('[data-network="cnn"]')


@pytest.mark.parametrize("name", ["nobody", "<b>constructor</b>"])
def test_unknown_case_is_said_in_words(page, server, rows, name):
    visit(page, server, case=name)
    words = page.get_by_role("alert").filter(has_text="There is no such case.").inner_text()
    assert f"must be one of the {len(rows)} test images; received \u201c{name}\u201d" in words
    page.get_by_role("link", name="To the case library").click()
    page.locator(".t-grid").wait_for()


def test_bundle_without_a_library_says_so(browser, bundle_folder, tmp_path):
    folder = shutil.copytree(bundle_folder, tmp_path / "models")
    (folder / CASES).unlink()
    with serve(folder, tmp_path) as url:
        page = new_page(browser)
        page.goto(f"{url}/?room=threshold")
        page.get_by_role("alert").filter(has_text="The teaching room needs the case library").wait_for()
        words = page.inner_text(".teach [role=alert]")
        assert words.startswith("This room cannot be shown.")
        assert "Make it with `python -m training cases`." in words
        assert page.request.get(f"{url}/teaching/cases/index.json").status == 503
        page.get_by_role("tab", name="Read a radiograph").click()
        page.locator("#examples button").first.click()
        page.locator("#verdict", has_text=load_examples()[0].file).wait_for(timeout=60_000)
        assert "Traceback" not in (tmp_path / "server.log").read_text()
        close(page)


# --- threshold room ---------------------------------------------------------------------------------------------


def truth(rows: list[dict]) -> np.ndarray:
    return np.array([row["label"] == "PNEUMONIA" for row in rows])


def values_of(rows: list[dict], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def counts(rows: list[dict], name: str, cut: float) -> tuple[int, int, int, int]:
    """tn, fp, fn, tp."""
    return tuple(sk.confusion_matrix(truth(rows), values_of(rows, name) >= cut, labels=[False, True]).ravel().tolist())


def test_threshold_room_counts_as_scikit_learn_does(page, server, rows):
    visit(page, server, "threshold", network="cnn")
    labels, values = truth(rows), values_of(rows, "cnn")
    seen = set()
    for position in (0, *np.rint(np.quantile(values, (0.1, 0.3, 0.5, 0.7, 0.9)) * 1000).astype(int), 1000):
        field(page, SLIDER).fill(str(position))
        cut = position / 1000
        calls = values >= cut
        tn, fp, fn, tp = counts(rows, "cnn", cut)
        assert cells(page, "Confusion matrix of the test images") == [
            ["labelled pneumonia", f"{tp} found", f"{fn} missed"],
            ["labelled normal", f"{fp} false alarms", f"{tn} cleared"],
        ]
        table = {row[0]: row[1] for row in cells(page, "Rates with 95 % intervals")}
        rates = {
            "sensitivity": sk.recall_score(labels, calls),
            "specificity": sk.recall_score(labels, calls, pos_label=False),
            "positive predictive value": sk.precision_score(labels, calls, zero_division=np.nan),
            "negative predictive value": sk.precision_score(labels, calls, pos_label=False, zero_division=np.nan),
        }
        totals = {
            "sensitivity": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "positive predictive value": (tp, tp + fp),
            "negative predictive value": (tn, tn + fn),
        }
        for name, rate in rates.items():
            assert table[name].startswith(percent(rate)), name
            assert table[name] == with_wilson(*totals[name])
        assert plain(page.locator(".t-slider output").first.inner_text()) == percent(cut)
        missed = [row for row in rows if row["label"] == "PNEUMONIA" and row["cnn"] < cut]
        assert cards(page) == [row["id"] for row in sorted(missed, key=lambda row: row["cnn"])]
        dot = page.locator(".t-dot").first.evaluate("dot => [dot.getAttribute('cx'), dot.getAttribute('cy')]")
        x, y = (float(dot[0]) - 44) / 260, 1 - (float(dot[1]) - 10) / 260
        assert (x, y) == pytest.approx((1 - rates["specificity"], rates["sensitivity"]), abs=1e-6)
        seen.add((tn, fp, fn, tp))
    assert len(seen) > 4


def test_prevalence_changes_predictive_values_alone(page, server, rows, thresholds):
    visit(page, server, "threshold", network="cnn")
    tn, fp, fn, tp = counts(rows, "cnn", thresholds["cnn", "balanced"])
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    before = [row[1] for row in cells(page, "Rates with 95 % intervals")]
    for position in (20, 100, 500, 900):
        field(page, PREVALENCE).fill(str(position))
        share = position / 1000
        found, alarms = sensitivity * share, (1 - specificity) * (1 - share)
        cleared, missed = specificity * (1 - share), (1 - sensitivity) * share
        table = cells(page, "Rates with 95 % intervals")
        assert [row[1] for row in table] == before
        positive, negative = found / (found + alarms), cleared / (cleared + missed)
        assert [row[2] for row in table[2:]] == [percent(positive), percent(negative)]
        words = plain(page.inner_text(".t-words"))
        count = int(fixed(1000 * found, 0))
        assert f"{position} have pneumonia: {count} found, {position - count} missed." in words
        assert f"{fixed(1000 * alarms, 0)} called ill." in words
        assert f"{percent(positive, 0)} have pneumonia." in words
    # Where prevalence is that of the test images, both columns say the same.
    page.get_by_role("button", name="as in this data set").click()
    for row in cells(page, "Rates with 95 % intervals")[2:]:
        assert row[1].split(" [")[0] == row[2]


def test_operating_points_are_those_of_the_networks(page, server, rows, thresholds):
    visit(page, server, "threshold")
    for name in NAMES:
        field(page, "Network").select_option(name)
        for point in ("screening", "balanced"):
            page.get_by_role("button", name=f"{point} operating point").click()
            tn, fp, fn, tp = counts(rows, name, thresholds[name, point])
            assert [row[1:] for row in cells(page, "Confusion matrix of the test images")] == [
                [f"{tp} found", f"{fn} missed"],
                [f"{fp} false alarms", f"{tn} cleared"],
            ]


def test_curves_are_those_of_scikit_learn(page, server, rows):
    visit(page, server, "threshold")
    labels = truth(rows)
    for name in NAMES:
        field(page, "Network").select_option(name)
        values = values_of(rows, name)
        area = sk.roc_auc_score(labels, values)
        assert f"Area {fixed(area, 3)}." in page.locator(".t-figures figcaption").first.inner_text()
        table = saved(page, page.get_by_role("button", name="Data (CSV)"))
        alarms, found, cuts = sk.roc_curve(labels, values, drop_intermediate=False)
        assert [float(row["threshold"]) for row in table[1:]] == pytest.approx(cuts[1:].tolist(), abs=1e-9)
        assert [float(row["sensitivity"]) for row in table] == pytest.approx(found.tolist())
        assert [1 - float(row["specificity"]) for row in table] == pytest.approx(alarms.tolist(), abs=1e-9)
        precision, recall, cuts = sk.precision_recall_curve(labels, values)
        by_cut = {cut: (precision[index], recall[index]) for index, cut in enumerate(cuts.tolist())}
        for row in table[1:]:
            assert (float(row["precision"]), float(row["sensitivity"])) == pytest.approx(
                by_cut[float(row["threshold"])]
            )
        points = page.locator(".t-plot polyline").last.get_attribute("points").split()
        drawn = [[(float(x) - 44) / 260, 1 - (float(y) - 10) / 260] for x, y in (point.split(",") for point in points)]
        expected = [[float(row["sensitivity"]), float(row["precision"])] for row in table[1:]]
        assert np.array(drawn) == pytest.approx(np.array(expected), abs=3e-4)


def test_link_restores_the_position(page, browser, server, rows, thresholds):
    """To the last digit: a network's operating point lies between the steps of the slider."""
    visit(page, server, "threshold")
    field(page, "Network").select_option("cnn_lstm")
    field(page, PREVALENCE).fill("321")
    cut = thresholds["cnn_lstm", "balanced"]
    await_address(page, room="threshold", network="cnn_lstm", threshold=repr(cut), prevalence="0.321")
    other = new_page(browser)
    follow(other, page.url)
    for caption in ("Confusion matrix of the test images", "Rates with 95 % intervals"):
        assert cells(other, caption) == cells(page, caption)
    _, _, fn, tp = counts(rows, "cnn_lstm", cut)
    assert cells(other, "Confusion matrix of the test images")[0][1:] == [f"{tp} found", f"{fn} missed"]
    field(page, SLIDER).fill("437")
    await_address(page, room="threshold", network="cnn_lstm", threshold="0.437", prevalence="0.321")
    follow(other, page.url)
    assert field(other, SLIDER).input_value() == "437"
    assert field(other, PREVALENCE).input_value() == "321"
    assert cards(other) == cards(page)
    close(other)


def test_slider_moved_long_keeps_its_address(page, server):
    """Browsers refuse the address of every step."""
    visit(page, server, "threshold")
    field(page, SLIDER).evaluate(
        """async slider => {
          for (let step = 100; step <= 900; step += 1) {
            slider.value = step;
            slider.dispatchEvent(new Event("input"));
            if (step % 10 === 0) await new Promise(requestAnimationFrame);
          }
        }"""
    )
    await_address(page, room="threshold", network="together", threshold="0.9", prevalence="0.1")


def test_missed_pneumonia_opens(page, server, rows):
    visit(page, server, "threshold", network="cnn", threshold="1")
    name = cards(page)[0]
    page.locator(".t-grid .t-case").first.click()
    page.get_by_role("heading", name=name).wait_for()
    page.go_back()
    shown(page, "threshold")
    assert field(page, SLIDER).input_value() == "1000"


# --- reading exercise -------------------------------------------------------------------------------------------

SURES = ("0.5", "0.65", "0.8", "0.95")
PLACES = (
    "right_upper",
    "left_upper",
    "right_middle",
    "left_middle",
    "right_lower",
    "left_lower",
    "outside",
    "",
    "outside",
    "left_lower",
)


def deepest(mask: np.ndarray) -> tuple[float, float]:
    """The place of a mask that is farthest from its border, as shares of width and height."""
    padded = np.pad(mask, 1).astype(np.uint8)
    row, column = divmod(int(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1].argmax()), RASTER)
    return (column + 0.5) / RASTER, (row + 0.5) / RASTER


def pictures(page) -> list[str]:
    """The radiographs that were asked for, in order."""
    names = [re.search(r"/teaching/cases/([^/]+)\.jpeg$", call.url) for call in page.calls]
    return list(dict.fromkeys(name[1] for name in names if name))


@pytest.fixture(scope="module")
def reading(browser, server, lungs):
    """A set that was read by mouse: what was answered, and what the page said."""
    page = new_page(browser)
    visit(page, server, "exercise", **SET)
    page.calls.clear()
    page.get_by_role("button", name="Start").click()
    read = []
    for number, place in enumerate(PLACES):
        page.get_by_role("heading", name=f"Case {number + 1} of {len(PLACES)}").wait_for()
        case = SimpleNamespace(id=pictures(page)[-1], place=place, called=("PNEUMONIA", "NORMAL")[number % 3 == 1])
        case.sure, case.hidden = SURES[number % 4], page.content()
        case.words = page.inner_text(".t-exercise")
        if place:
            zones = lungs[case.id].zones() | {"outside": ~lungs[case.id].mask}
            case.x, case.y = deepest(zones[place])
            film = page.locator(".t-read .t-film").bounding_box()
            page.mouse.click(film["x"] + case.x * film["width"], film["y"] + case.y * film["height"])
            case.marked = plain(page.locator(".t-read + p").inner_text())
        page.locator(f'.t-form input[value="{case.called}"]').check()
        page.locator(f'.t-form input[value="{case.sure}"]').check()
        page.get_by_role("button", name="Answer", exact=True).click()
        page.locator(".t-answers").wait_for()
        case.revealed, case.marks = plain(page.inner_text(".t-exercise")), page.locator(".t-mark").count()
        read.append(case)
        page.locator(".t-steps .main-button").click()
    page.get_by_role("heading", name="How you read").wait_for()
    yield SimpleNamespace(page=page, read=read, calls=[*page.calls])
    close(page)


def test_labels_are_hidden_until_the_answer(reading, rows):
    names = [row["id"] for row in rows]
    for case in reading.read:
        assert not [name for name in names if name in case.hidden]
        assert not re.search(r"bacteria|vir(al|us)|label|CNN", case.words)


def test_answer_is_told_with_the_label(reading, rows):
    known = {row["id"]: row for row in rows}
    subtypes = {"": "normal", "bacteria": "pneumonia, bacterial", "virus": "pneumonia, viral"}
    for case in reading.read:
        row = known[case.id]
        verdict = "\N{CHECK MARK} Right" if case.called == row["label"] else "\N{MULTIPLICATION X} Wrong"
        assert case.revealed.startswith(f"{verdict}: the label is {subtypes[row['subtype']]}.")
        assert f"You said {case.called.lower()}, {percent(float(case.sure), 0)} sure." in case.revealed
        assert case.id in case.revealed
        for name in NETWORKS:
            assert probability(row[name]) in case.revealed


def test_click_is_placed_and_its_zone_named(reading, lungs):
    for case in reading.read:
        if not case.place:
            assert "Your click" not in case.revealed
            assert case.marks == 0
            continue
        row, column = int(case.y * RASTER), int(case.x * RASTER)
        found = [name for name, zone in lungs[case.id].zones().items() if zone[row, column]]
        assert found == ([case.place] if case.place != "outside" else [])
        words = f"in the {found[0].replace('_', ' ')} zone" if found else "outside the lungs"
        assert f"Your click fell {words}; right is the patient\u2019s right." in case.revealed
        x, y = (int(number) for number in re.findall(r"(\d+) % from", case.marked))
        assert (x, y) == pytest.approx((case.x * 100, case.y * 100), abs=1)
        assert case.marks == 1


def test_half_of_a_set_are_pneumonias(reading, rows):
    known = {row["id"]: row["label"] for row in rows}
    read = [case.id for case in reading.read]
    assert len(set(read)) == len(read) == 10
    assert [known[name] for name in read].count("PNEUMONIA") == 5


def test_summary_is_right(reading, rows, thresholds):
    known = {row["id"]: row for row in rows}
    labels = np.array([known[case.id]["label"] == "PNEUMONIA" for case in reading.read])
    calls = np.array([case.called == "PNEUMONIA" for case in reading.read])
    sure = np.array([float(case.sure) for case in reading.read])
    readers = {"you": (calls, np.where(calls, sure, 1 - sure))}
    for name in ("together", *NETWORKS):
        values = np.array([known[case.id][name] for case in reading.read])
        readers[TITLES[name]] = values >= thresholds[name, "balanced"], values
    table = cells(reading.page, "On these cases, with 95 % intervals")
    assert [row[0] for row in table] == list(readers)
    for (_, *row), (called, values) in zip(table, readers.values(), strict=True):
        (tn, fp), (fn, tp) = sk.confusion_matrix(labels, called, labels=[False, True])
        assert row[:4] == [
            with_wilson(int(tp), int(tp + fn)),
            with_wilson(int(tn), int(tn + fp)),
            with_wilson(int(tp + tn), len(labels)),
            fixed(sk.brier_score_loss(labels, values), 3),
        ]
    words = {"0.5": "guessing", "0.65": "a little", "0.8": "fairly", "0.95": "very"}
    expected = []
    for value, text in words.items():
        right = (calls == labels)[sure == float(value)]
        total, count = len(right), int(right.sum())
        expected.append([f"{text} ({percent(float(value), 0)})", str(total), with_wilson(count, total)])
    assert cells(reading.page, "Your calibration") == expected


def test_result_is_saved(reading, rows):
    known = {row["id"]: row for row in rows}
    table = saved(reading.page, reading.page.get_by_role("button", name="Download the result (CSV)"))
    assert len(table) == len(reading.read)
    for number, (line, case) in enumerate(zip(table, reading.read, strict=True), start=1):
        row = known[case.id]
        expected = {"number": str(number), "case": case.id, "label": row["label"], "subtype": row["subtype"]}
        expected |= {"answer": case.called, "sure": str(float(case.sure)), "zone": case.place}
        expected |= {"right": str(case.called == row["label"]).lower()}
        assert {name: line[name] for name in expected} == expected
        assert [float(line[name]) for name in NAMES] == [row[name] for name in NAMES]
        if case.place:
            assert (float(line["x"]), float(line["y"])) == pytest.approx((case.x, case.y), abs=0.005)
        else:
            assert (line["x"], line["y"]) == ("", "")


def test_answers_are_sent_nowhere(reading):
    assert reading.calls
    names = {case.id for case in reading.read}
    for call in reading.calls:
        if call.url.startswith("blob:"):
            continue
        assert (call.method, call.post_data) == ("GET", None)
        found = re.fullmatch(r"http://127\.0\.0\.1:\d+/teaching/cases/([^/?]+)\.(json|jpeg)", call.url)
        assert found, call.url
        assert found[1] in names


def test_wrong_cases_are_shown_again(reading, rows):
    known = {row["id"]: row["label"] for row in rows}
    wrong = [case for case in reading.read if case.called != known[case.id]]
    again = reading.page.locator(".t-grid button.t-case")
    assert again.count() == len(wrong) > 1
    assert reading.page.get_by_role("heading", name=f"The {len(wrong)} cases that you got wrong, again").count() == 1
    again.nth(1).click()
    reading.page.get_by_role("heading", name=wrong[1].id).wait_for()
    assert reading.page.locator(".t-again .t-film").count() == 4


def answer(page, called: str = "NORMAL") -> str:
    """Answer the case on show; its name."""
    page.locator(f'.t-form input[value="{called}"]').check()
    page.get_by_role("button", name="Answer", exact=True).click()
    page.locator(".t-answers").wait_for()
    name = page.locator(".t-steps .quiet").inner_text()
    page.locator(".t-steps .main-button").click()
    return name


def press(page, name: str, role: str) -> None:
    """Go to a control by the tabulator, and press Enter."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == name:
            break
    assert page.get_by_role(role, name=name).evaluate("element => element === document.activeElement")
    page.keyboard.press("Enter")


def test_keyboard_alone_reads_the_same_set_in_another_browser(page, server, reading):
    visit(page, server, "exercise", **SET)
    press(page, "Start", "button")
    order = []
    for number in range(10):
        page.get_by_role("heading", name=f"Case {number + 1} of 10").wait_for()
        page.wait_for_function("document.activeElement.matches('.t-exercise h2')")
        page.keyboard.press("Tab")
        said = page.locator(".t-read + p")
        for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
            page.keyboard.press(key)
        assert plain(said.inner_text()) == "Marked at 54 % from the left and 58 % from the top."
        if number % 2:
            page.keyboard.press("Delete")
            assert said.inner_text() == "No place is marked."
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        assert page.get_by_role("radio", name="pneumonia", exact=True).is_checked()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        assert page.get_by_role("radio", name="very").is_checked()
        press(page, "Answer", "button")
        page.locator(".t-answers").wait_for()
        page.wait_for_function("document.activeElement.matches('.t-exercise h2')")
        order.append(page.locator(".t-steps .quiet").inner_text())
        text = page.inner_text(".t-exercise")
        assert "You said pneumonia, 95" in text
        assert ("Your click fell" in text) == (number % 2 == 0)
        press(page, "See how you did" if number == 9 else "Next case", "button")
    page.get_by_role("heading", name="How you read").wait_for()
    assert order == [case.id for case in reading.read]
    you = cells(page, "On these cases, with 95 % intervals")[0]
    assert [text.split(" [")[0] for text in you[1:4]] == ["100.0 %", "0.0 %", "50.0 %"]
    press(page, "Read the set again", "button")
    page.get_by_role("heading", name="Read a set of radiographs").wait_for()


def test_other_seed_other_set(page, server, reading):
    visit(page, server, "exercise")
    field(page, "Number of the set").fill("8")
    page.keyboard.press("Enter")
    await_address(page, room="exercise", **SET | {"seed": "8"})
    page.get_by_role("button", name="Start").click()
    page.locator(".t-read").wait_for()
    assert [answer(page) for _ in range(3)] != [case.id for case in reading.read[:3]]


def test_set_is_chosen_by_keyboard(page, server, rows):
    visit(page, server, "exercise")
    page.get_by_role("radio", name="10 cases").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="20 cases").evaluate("element => element === document.activeElement")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    await_address(page, room="exercise", seed="1", count="20", mix="natural")
    field(page, "Number of the set").fill("-5")
    page.keyboard.press("Tab")
    assert field(page, "Number of the set").input_value() == "1"
    page.get_by_role("button", name="another").click()
    seed = field(page, "Number of the set").input_value()
    await_address(page, room="exercise", seed=seed, count="20", mix="natural")
    page.get_by_role("button", name="Start").click()
    # There are no more.
    page.get_by_role("heading", name=f"Case 1 of {len(rows)}").wait_for()


def test_case_is_answered_once(page, server):
    visit(page, server, "exercise", **SET)
    page.get_by_role("button", name="Start").click()
    button = page.get_by_role("button", name="Answer", exact=True)
    button.wait_for()
    assert button.is_disabled()
    page.get_by_role("radio", name="normal", exact=True).check()
    button.dblclick()
    page.locator(".t-answers").wait_for()
    page.get_by_role("button", name="Next case").dblclick()
    page.get_by_role("heading", name="Case 2 of 10").wait_for()
    # What was begun goes on after a look at another room.
    page.get_by_role("link", name="Threshold room").click()
    shown(page, "threshold")
    page.go_back()
    page.get_by_role("heading", name="Case 2 of 10").wait_for()


def test_set_is_left_midway(page, server):
    visit(page, server, "exercise", **SET)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Choose another set").click()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("radio", name="normal", exact=True).check()
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_role("button", name="Next case").click()
    page.get_by_role("button", name="Stop and see how you did").click()
    page.get_by_role("heading", name="How you read").wait_for()
    page.get_by_text("You stopped after 1 of 10 cases.").wait_for()
    you = cells(page, "On these cases, with 95 % intervals")[0]
    # One case is either a pneumonia or none: of the other there is no share.
    assert "\N{EN DASH}" in you[1:3]
    assert "NaN" not in " ".join(you)


def test_lost_connection_loses_no_answer(browser, server):
    page = new_page(browser)
    visit(page, server, "exercise", **SET)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("radio", name="pneumonia", exact=True).check()
    page.context.set_offline(True)
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_role("alert").filter(has_text="The server could not be reached.").wait_for()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("You said pneumonia, 80").wait_for()
    page.get_by_role("button", name="Next case").click()
    page.get_by_role("heading", name="Case 2 of 10").wait_for()
    close(page)


# --- comparison -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(browser, server):
    page = new_page(browser)
    visit(page, server, "compare")
    yield page
    close(page)


def measure(metric: dict | None, score: bool) -> str:
    if metric is None or metric["value"] is None:
        return "\N{EN DASH}"
    value, (low, high) = metric["value"], metric["interval"]
    if score:
        return f"{fixed(value, 3)} [{fixed(low, 3)}, {fixed(high, 3)}]"
    return f"{percent(value)} [{fixed(low * 100, 1)}, {fixed(high * 100, 1)}]"


def saved_as(page, name: str) -> list[dict[str, str]]:
    """The rows of the CSV of that name."""
    order = ["measures", "roc", "precision_recall", "reliability", "confusion", "stress", "shortcuts", "disagreements"]
    button = page.get_by_role("button", name="Data (CSV)").nth(order.index(name))
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == f"{name}.csv"
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


def test_measures_are_those_of_the_bundle(compared, metrics):
    measured = json.loads(compared.request.get(compared.url.split("?")[0] + "teaching/metrics.json").text())
    columns, scores = list(measured["titles"]), {"auc", "auc_same_sizes", "mcc", "ece", "brier"}
    subjects = [(TITLES[name], metrics["test"][name]) for name in NAMES]
    subjects += [(floor["title"], floor["test"]) for floor in metrics["floors"]]
    assert cells(compared, "Measures on the test split") == [
        [title, *(measure(test.get(name), name in scores) for name in columns)] for title, test in subjects
    ]
    heads = texts(compared.get_by_role("region", name="Measures on the test split").locator("thead th"))
    assert heads == ["", *measured["titles"].values()]
    text = plain(compared.inner_text(".t-compare"))
    assert f"{metrics['images']} images of {metrics['patients']} patients" in text
    assert metrics["interval"] in text
    for (title, test), line in zip(subjects, saved_as(compared, "measures"), strict=True):
        assert line[""] == title
        for name in columns:
            entry = test.get(name)
            if entry is None or entry["value"] is None:
                assert line[name] == ""
            else:
                found = [float(line[key]) for key in (name, f"{name}_low", f"{name}_high")]
                assert found == [entry["value"], *entry["interval"]]


def test_confusion_is_that_of_the_bundle(compared, metrics):
    kinds = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    expected = [[TITLES[name], *(str(round(metrics["test"][name][kind]["value"])) for kind in kinds)] for name in NAMES]
    assert cells(compared, "Confusion at the balanced operating point") == expected
    assert [list(line.values()) for line in saved_as(compared, "confusion")] == expected


def test_stress_is_that_of_the_bundle(compared, metrics):
    def signed(loss: float) -> str:
        return ("+" if loss <= 0 else "\N{MINUS SIGN}") + fixed(abs(loss), 3)

    expected = []
    for kind, found in metrics["stress"].items():
        row = [kind]
        for name in NAMES:
            of = found[name]
            losses = f"{signed(of['loss_of_sensitivity'])} / {signed(of['loss_of_specificity'])}"
            row.append(f"{fixed(of['auc'], 3)}; {losses}; {of['flips']}")
        expected.append(row)
    assert cells(compared, "Under stress") == expected
    lines = saved_as(compared, "stress")
    assert len(lines) == len(NAMES) * len(metrics["stress"])
    for line in lines:
        of = metrics["stress"][line["stress"]][line["network"]]
        for name in ("auc", "loss_of_sensitivity", "loss_of_specificity", "flips"):
            assert float(line[name]) == of[name]
    worst = max(
        max(of["loss_of_sensitivity"], of["loss_of_specificity"])
        for found in metrics["stress"].values()
        for of in found.values()
    )
    assert f"The largest loss of sensitivity or specificity is {fixed(worst, 3)}, of " in compared.inner_text(
        ".t-compare"
    )


def test_shortcuts_are_those_of_the_bundle(compared, metrics):
    expected = [[kind, *(measure(found[name], True) for name in NAMES)] for kind, found in metrics["shortcuts"].items()]
    assert cells(compared, "With shortcuts alone") == expected
    for line in saved_as(compared, "shortcuts"):
        of = metrics["shortcuts"][line["shortcut"]][line["network"]]
        assert [float(line[name]) for name in ("auc", "low", "high")] == [of["value"], *of["interval"]]


def test_curves_of_all_networks_are_saved(compared, rows):
    labels = truth(rows)
    roc, recall = saved_as(compared, "roc"), saved_as(compared, "precision_recall")
    for name in NAMES:
        alarms, found, _ = sk.roc_curve(labels, values_of(rows, name), drop_intermediate=False)
        points = [line for line in roc if line["network"] == name]
        assert [float(line["false_alarms"]) for line in points] == pytest.approx(alarms.tolist())
        assert [float(line["sensitivity"]) for line in points] == pytest.approx(found.tolist())
        precision, sensitivity, cuts = sk.precision_recall_curve(labels, values_of(rows, name))
        points = [line for line in recall if line["network"] == name][::-1]
        known = cuts.tolist()
        for line in points:
            index = known.index(float(line["threshold"]))
            assert (float(line["precision"]), float(line["recall"])) == pytest.approx(
                (precision[index], sensitivity[index])
            )
        assert len(points) == len(set(values_of(rows, name)))


def test_reliability_is_of_bins_of_equal_size(compared, rows):
    lines = saved_as(compared, "reliability")
    for name in NAMES:
        bins = [line for line in lines if line["network"] == name]
        assert sum(int(line["images"]) for line in bins) == len(rows)
        assert max(int(line["images"]) for line in bins) - min(int(line["images"]) for line in bins) <= 1
        ordered = sorted(rows, key=lambda row: row[name])
        for line in bins:
            part, ordered = ordered[: int(line["images"])], ordered[int(line["images"]) :]
            share = truth(part).mean()
            assert float(line["mean_probability"]) == pytest.approx(values_of(part, name).mean())
            assert float(line["share_with_pneumonia"]) == pytest.approx(share)
            interval = wilson_interval(int(truth(part).sum()), len(part))
            assert [float(line["low"]), float(line["high"])] == pytest.approx(interval, abs=1e-6)


def test_disagreements_are_those_of_the_networks(compared, rows, thresholds):
    split = [row for row in rows if len({row[name] >= thresholds[name, "balanced"] for name in NETWORKS}) == 2]
    heading = f"Where the networks disagree: {len(split)} of {len(rows)} images"
    assert compared.get_by_role("heading", name=heading).count() == 1
    assert cards(compared) == [row["id"] for row in split]
    wrong = sum(outcome(row, "together", thresholds["together", "balanced"]) != "correct" for row in split)
    assert f"On {wrong} of these the mean of the networks is wrong." in compared.inner_text(".t-compare")
    lines = saved_as(compared, "disagreements")
    assert [line["case"] for line in lines] == [row["id"] for row in split]
    for line, row in zip(lines, split, strict=True):
        assert [float(line[name]) for name in NETWORKS] == [row[name] for name in NETWORKS]


# --- tour -------------------------------------------------------------------------------------------------------


def test_every_stop_opens_with_its_words(page, server, members):
    stops = json.loads(members["index.json"])["tour"]
    visit(page, server, "tour")
    for number, stop in enumerate(stops, start=1):
        page.get_by_role("heading", name=stop["title"]).wait_for()
        assert plain(page.inner_text(".t-words")) == plain(stop["words"])
        text = plain(page.inner_text(".t-tour"))
        assert f"The case, {stop['case']} (label: " in text
        assert plain(stop["rule"]) in text
        assert page.locator('.t-stops [aria-current="step"]').inner_text() == stop["title"]
        assert texts(page.locator(".t-panel > h3")) == [panel["title"] for panel in stop["panels"]]
        page.wait_for_function("[...document.querySelectorAll('.t-film img')].every(img => img.naturalWidth === 224)")
        for panel, content in zip(page.locator(".t-panel").all(), stop["panels"], strict=True):
            answers = content["answers"]
            maps = [name for name, answer in answers.items() if answer["map"]]
            assert panel.locator(".t-film").count() == max(1, len(maps))
            decided = {name: answer for name, answer in answers.items() if answer["decision"]}
            assert texts(panel.locator(".t-lines li")) == [
                f"{TITLES[name]} {probability(answer['probability'])} {answer['decision']}"
                for name, answer in decided.items()
            ]
            for name in maps:
                assert plain(answers[name]["words"]) in plain(panel.inner_text())
        assert page.get_by_role("link", name="Previous", exact=True).count() == (number > 1)
        following = page.get_by_role("link", name="Next", exact=True)
        assert following.count() == (number < len(stops))
        if number < len(stops):
            following.click()
            await_address(page, room="tour", stop=str(number + 1))
    page.get_by_role("link", name="Previous", exact=True).click()
    page.get_by_role("heading", name=stops[-2]["title"]).wait_for()
    page.get_by_role("link", name=stops[0]["title"]).click()
    page.get_by_role("heading", name=stops[0]["title"]).wait_for()
    page.get_by_role("link", name="Open the case").click()
    page.get_by_role("heading", name=stops[0]["case"]).wait_for()


@pytest.mark.parametrize(("stop", "number"), [("99", -1), ("x", 0)])
def test_stop_that_is_not_there_leads_to_one_that_is(page, server, members, stop, number):
    visit(page, server, "tour", stop=stop)
    title = json.loads(members["index.json"])["tour"][number]["title"]
    assert page.locator(".t-tour h2").inner_text() == title


# --- all rooms --------------------------------------------------------------------------------------------------

ROOMS = {
    "Threshold room": "threshold",
    "Reading exercise": "exercise",
    "Compare networks": "compare",
    "How it can fool you": "tour",
    "Case library": "cases",
}
WIDE = """() => [
  document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll(".teach *")]
    .filter(element => !element.parentElement.closest(".scroll") && !element.closest("svg"))
    .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
    .map(element => element.outerHTML.slice(0, 80)),
]"""


def assert_fits_phones(page) -> None:
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(WIDE) == [0]


def test_nothing_overflows_on_a_phone(browser, server):
    page = new_page(browser, PHONE)
    visit(page, server)
    for title, room in ROOMS.items():
        page.get_by_role("link", name=title).click()
        shown(page, room)
        assert_fits_phones(page)
    page.locator(".t-case").first.click()
    page.locator(".t-answers").wait_for()
    assert_fits_phones(page)
    page.get_by_role("link", name="Reading exercise").click()
    page.get_by_role("button", name="Start").click()
    page.locator(".t-read").wait_for()
    assert_fits_phones(page)
    page.get_by_role("radio", name="normal", exact=True).check()
    page.get_by_role("button", name="Answer", exact=True).click()
    page.locator(".t-answers").wait_for()
    assert_fits_phones(page)
    close(page)


def test_summary_does_not_overflow_on_a_phone(reading):
    assert reading.page.get_by_role("heading", name="How you read").count() == 1
    assert_fits_phones(reading.page)
    reading.page.set_viewport_size(DESK)


def test_focus_stays_with_who_goes_by_keyboard(page, server, members):
    visit(page, server)
    link = page.get_by_role("link", name="How it can fool you")
    link.focus()
    page.keyboard.press("Enter")
    shown(page, "tour")
    assert link.evaluate("element => element === document.activeElement")
    assert link.get_attribute("aria-current") == "page"
    page.get_by_role("link", name="Next", exact=True).focus()
    page.keyboard.press("Enter")
    title = json.loads(members["index.json"])["tour"][1]["title"]
    page.get_by_role("heading", name=title).wait_for()
    assert page.evaluate("document.activeElement.matches('.t-room')")
    page.get_by_role("link", name="Case library").click()
    field(page, "Outcome").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Outcome"


def test_address_goes_and_comes_with_the_tab(page, server):
    page.goto(server)
    page.locator("#cards .card").first.wait_for()
    assert "/teaching/" not in "".join(call.url for call in page.calls)
    page.get_by_role("tab", name="Teaching room").click()
    page.get_by_role("link", name="How it can fool you").click()
    shown(page, "tour")
    page.get_by_role("link", name="Next", exact=True).click()
    await_address(page, room="tour", stop="2")
    page.get_by_role("tab", name="The numbers").click()
    await_address(page)
    page.get_by_role("tab", name="Teaching room").click()
    await_address(page, room="tour", stop="2")
    page.get_by_role("tab", name="Read a radiograph").click()
    await_address(page)
    page.go_back()
    page.locator(".t-tour").wait_for()
    assert page.get_by_role("tab", name="Teaching room").get_attribute("aria-selected") == "true"


def test_address_goes_with_the_tab_on_a_phone(browser, server):
    """There they take two lines, and none is in a menu."""
    page = new_page(browser, PHONE)
    visit(page, server, "threshold")
    page.get_by_role("tab", name="The numbers").click()
    await_address(page)
    close(page)


def test_page_has_one_main_part(page, server):
    visit(page, server)
    assert page.locator("main").count() == 1
