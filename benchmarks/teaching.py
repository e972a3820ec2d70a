"""How quickly the teaching room answers in a real browser."""

from __future__ import annotations

import shutil
import statistics
import sys
import time

from playwright.sync_api import Page, sync_playwright

from benchmarks.startup import served

# From an input event until the browser has drawn what follows from it.
_MOVE = """
async ([selector, value]) => {
  const field = document.querySelector(selector);
  const started = performance.now();
  field.value = value;
  field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - started;
}
"""
_SLIDER = ".t-threshold input[type=range]"
_OUTCOME = ".t-cases select[aria-label=Outcome]"


def teaching(repeats: int) -> None:
    """Open rooms and move their controls in a headless Chromium; print milliseconds.

    Parameters
    ----------
    repeats : int
        How often each control is moved.
    """
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("This benchmark needs a Chromium; none was found. On Debian: apt-get install chromium")
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 900})
        opened = [_opened(page, url) for _ in range(max(3, repeats // 50))]
        rows = {"a shared link until its cases are on screen": opened}
        page.goto(f"{url}/?room=threshold")
        page.wait_for_selector(_SLIDER)
        places = [1 + (number * 379) % 999 for number in range(repeats)]
        rows["operating point moved"] = [page.evaluate(_MOVE, [_SLIDER, str(place)]) for place in places]
        page.goto(f"{url}/?room=cases")
        page.wait_for_selector(_OUTCOME)
        outcomes = ["all", "missed"] * (repeats // 2)
        found = [page.evaluate(_MOVE, [_OUTCOME, outcome]) for outcome in outcomes]
        rows["filter opened to all cases"], rows["filter closed to the missed"] = found[::2], found[1::2]
        browser.close()
    print(f"{'milliseconds':<44}{'n':>6}{'median':>8}{'p95':>8}{'max':>8}")
    for title, values in rows.items():
        p95 = sorted(values)[int(0.95 * (len(values) - 1))]
        print(f"{title:<44}{len(values):>6}{statistics.median(values):>8.0f}{p95:>8.0f}{max(values):>8.0f}")


def _opened(page: Page, url: str) -> float:
    page.goto("about:blank")
    started = time.perf_counter()
    page.goto(f"{url}/?room=cases&outcome=missed")
    page.wait_for_selector(".t-cases .t-case")
    return 1000 * (time.perf_counter() - started)
