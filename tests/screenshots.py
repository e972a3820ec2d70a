"""Take the pictures of the page that README.md shows: `make screenshots`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import ROOT, open_browser, serve
from dicom_files import dicom_file
from markdown_it import MarkdownIt

from pneumo.bundle import EMBEDDED
from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import load_examples

DOCS = ROOT / "docs"


_ROOMS = {
    "cases": ("room=cases", ".t-case"),
    "case": ("room=cases&case=person153_bacteria_726", ".teach .card"),
    "threshold": ("room=threshold", ".t-plot"),
    "exercise": ("room=exercise&seed=7", ".t-exercise h2"),
    "compare": ("room=compare", ".t-plot"),
    "tour": ("room=tour&stop=3", ".t-panel"),
}
"""By name of the picture: the address of a room of the teaching room, and what is waited for."""


_TEXT = {"name": "report.png", "mimeType": "image/png", "buffer": b"A text, not an image.\n"}


def _several() -> list[dict]:
    """Test images, two of them as DICOM files, one of which says that it is a lateral view, and a leg."""
    examples = [example.path for example in load_examples()]
    pixels = read_radiograph(examples[0]).pixels
    files = [{"name": path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()} for path in examples[:4]]
    for elements in ({"PatientAge": "004Y"}, {"ViewPosition": "LL"}, {"BodyPartExamined": "LEG"}):
        content = dicom_file(pixels, "JPEG 2000 lossless", **elements)
        files.append({"name": "IM.dcm", "mimeType": "application/dicom", "buffer": content})
    return [*files, _TEXT]


def main() -> None:
    """Photograph the page with each kind of answer, on a laptop and a phone, light and dark."""
    DOCS.mkdir(exist_ok=True)
    examples = load_examples()
    pneumonia = next(index for index, example in enumerate(examples) if "pneumonia" in example.label)
    normal = next(index for index, example in enumerate(examples) if example.label.startswith("normal"))
    missed = next(index for index, example in enumerate(examples) if "missed" in example.caption)
    with tempfile.TemporaryDirectory() as folder, serve(EMBEDDED, Path(folder)) as url, open_browser() as browser:
        if browser is None:
            sys.exit("The screenshots need a Chromium; none was found. On Debian: apt-get install chromium")
        _photograph(browser, url, "page", example=pneumonia)
        _photograph(browser, url, "page_normal", example=normal, scheme="dark")
        _photograph(browser, url, "page_missed", example=missed)
        _photograph(browser, url, "page_lungs", example=missed, point="screening", lungs=True)
        _photograph(browser, url, "page_refused", files=[_TEXT])
        _photograph(browser, url, "page_batch", files=_several())
        _photograph(browser, url, "page_phone", example=pneumonia, size=(390, 844))
        _photograph(browser, url, "page_numbers", tab="The numbers")
        for name, (address, picture) in _ROOMS.items():
            _photograph_room(browser, f"{url}/?{address}", name, picture)
        _photograph_room(browser, f"{url}/?{_ROOMS['case'][0]}", "phone", ".teach .card", (390, 844))
        _photograph_card(browser, Path(folder) / "card.html")
    command = [sys.executable, "-m", "pneumo", "predict", examples[pneumonia].path, "--report", DOCS / "report.png"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _photograph(
    browser,
    url,
    name,
    example=None,
    tab=None,
    size=(1366, 768),
    scheme="light",
    point="balanced",
    lungs=False,
    files=(),
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#cards .card")
    if tab:
        page.get_by_role("tab", name=tab).click()
        page.locator(".numbers").first.wait_for(timeout=60_000)
    elif example is not None:
        page.locator(f"#point input[value={point}]").check()
        page.locator("#show-lungs").set_checked(lungs)
        page.locator("#examples button").nth(example).click()
        page.locator("button.film").first.wait_for(timeout=60_000)
    else:
        page.set_input_files("#upload input[type=file]", files)
        page.locator(".refused").last.wait_for(timeout=60_000)
        if len(files) > 1:
            page.get_by_text("Download the table as CSV").wait_for(timeout=60_000)
    page.wait_for_timeout(800)
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.screenshot(path=DOCS / f"{name}.png", full_page=True)
    context.close()


def _photograph_room(browser, address, name, awaited, size=(1366, 900)) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(address)
    page.locator(awaited).last.wait_for(timeout=60_000)
    if name == "exercise":
        page.get_by_role("button", name="Start").click()
        for number in range(10):
            page.get_by_label("pneumonia" if number % 2 else "normal", exact=True).check()
            page.get_by_role("button", name="Answer", exact=True).click()
            page.locator(".t-exercise .main-button", has_text="case" if number < 9 else "how you did").click()
    page.wait_for_timeout(1000)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=DOCS / f"teaching_{name}.png")
    page.close()


def _photograph_card(browser, path: Path) -> None:
    """The model card as Markdown is rendered, without its front matter."""
    text = (ROOT / "model_card.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    style = (
        "body{font:15px/1.5 system-ui;max-width:1000px;margin:2rem auto}table{border-collapse:collapse;font-size:13px}"
    )
    style += "td,th{border:1px solid #ccc;padding:4px 8px}img{max-width:70%}code{background:#eee}"
    html = MarkdownIt("commonmark").enable("table").render(text)
    path.write_text(
        f'<meta charset="utf-8"><base href="{ROOT.as_uri()}/"><style>{style}</style>{html}', encoding="utf-8"
    )
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(path.as_uri())
    page.screenshot(path=DOCS / "card.png", full_page=True)
    page.close()


if __name__ == "__main__":
    main()
