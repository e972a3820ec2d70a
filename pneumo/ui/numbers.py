"""The tab that says what the networks are worth, from the bundle's own manifest."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
from typing_extensions import TypedDict

from pneumo.bundle import OPERATING_POINTS, Bundle
from pneumo.errors import PneumoError
from pneumo.examination import DISCLAIMER
from pneumo.framing import FRAMINGS, needs_lungs
from pneumo.report import METRICS, calibration_words, confusion, percent, test_rows, title
from pneumo.ui.components import typed_json
from pneumo.ui.service import ExaminationService

ATTRIBUTION = (
    "Images: Kermany, Zhang, Goldbaum, Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
    "Classification, Mendeley Data, v2, 2018, doi:10.17632/rscbjbr9sj.2, CC BY 4.0; Kermany et al., Cell 172(5), 2018."
)
"""What the data's licence asks for."""

_NOTES = """
<p><strong>What the networks see:</strong> {seen}.</p>
<p>{calibrated}</p>
<p><strong>Operating points.</strong> Balanced, the default, weighs missed pneumonias and false alarms alike: it is one
half of such a probability. Screening, chosen on the same held-out radiographs, misses fewer pneumonias and gives more
false alarms. Pneumonia is called from these probabilities on:</p>"""


class NetworkInfo(TypedDict):
    """What the API says of one network; `operating_points` are thresholds, `test` is null if not evaluated."""

    name: str
    sha256: str
    operating_points: dict[str, float]
    recipe: str
    test: dict[str, Any] | None


def build_numbers_tab(service: ExaminationService, page: gr.Blocks) -> None:
    """Lay out the tab inside the current Blocks context, and the endpoint that lists the networks."""
    place = gr.HTML('<p class="side-note">The networks are being loaded.</p>')

    async def show() -> str:
        try:
            return _numbers((await service.wait()).bundle)
        except PneumoError as error:
            return f'<section class="verdict refused" role="alert"><p>{escape(str(error))}</p></section>'

    async def networks() -> list[NetworkInfo]:
        """List the networks with their operating points and test metrics."""
        try:
            entries = (await service.wait()).bundle.manifest["networks"]
        except PneumoError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [
            {
                "name": name,
                "sha256": entry["sha256"],
                "operating_points": {point: item["threshold"] for point, item in entry["operating_points"].items()},
                "recipe": entry["recipe"]["name"],
                "test": entry.get("test"),
            }
            for name, entry in entries.items()
        ]

    # Not queued with the examinations: it only waits for the networks.
    page.load(show, None, place, queue=False, show_progress="hidden", api_visibility="private")
    output = typed_json(list[NetworkInfo], label="networks", visible=False)
    gr.Button(visible=False).click(networks, None, output, api_name="networks", queue=False)


def _numbers(bundle: Bundle) -> str:
    notices = "".join(f'<p class="side-note">{escape(notice)}</p>' for notice in bundle.notices)
    manifest = bundle.manifest
    first = next(iter(manifest["networks"].values()))
    if "test" in first:
        table = (
            f"<p>Measured on the {sum(confusion(first).values())} images of the official test split, by which "
            "neither weights nor operating points were chosen. In brackets, 95 % bootstrap intervals "
            "over patients. Decisions are at the balanced operating point. The floors are predictors that know nothing "
            "of lungs; to clear them does not show that a network looks at lungs.</p>"
            f'<div class="numbers" role="region" aria-label="test metrics" tabindex="0">{_table(manifest)}</div>'
        )
    else:
        table = "<p>These networks have not been evaluated on the test split.</p>"
    notes = _NOTES.format(seen=_seen(first), calibrated=_emphasised(calibration_words(manifest)))
    origin = bundle.location if bundle.location.startswith("hf://") else "those of this installation"
    return (
        f"<h2>What the networks are worth</h2>{notices}{table}"
        f"<p><strong>{DISCLAIMER}</strong> The networks saw children of one to five years from one hospital in "
        "Guangzhou. On other people, machines or diseases their answers mean nothing. Heatmaps show where a network "
        f"found evidence, not where the disease is.</p>{notes}{_points(manifest)}"
        f'<p class="side-note">{escape(ATTRIBUTION)} Program: Apache-2.0. Networks: {escape(origin)}.</p>'
    )


def _emphasised(words: str) -> str:
    first, _, rest = escape(words).partition(" ")
    return f"<strong>{first}</strong> {rest}"


def _seen(entry: dict[str, Any]) -> str:
    words = FRAMINGS[entry["framing"]]
    if needs_lungs(entry["framing"]):
        words += (
            "; another small network finds them, and where it finds no two, the whole image is shown with a warning"
        )
    return escape(words)


def _points(manifest: dict[str, Any]) -> str:
    entries = {title(name): entry for name, entry in manifest["networks"].items()}
    if manifest["together"]:
        entries[title("together")] = manifest["together"]
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", *OPERATING_POINTS))
    body = ""
    for name, entry in entries.items():
        thresholds = (percent(entry["operating_points"][point]["threshold"]) for point in OPERATING_POINTS)
        body += f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{item}</td>" for item in thresholds)}</tr>'
    return (
        '<div class="numbers points" role="region" aria-label="operating points" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table(manifest: dict[str, Any]) -> str:
    head = "".join(f'<th scope="col">{escape(metric)}</th>' for metric in ("", *METRICS.values()))
    body = ""
    for name, cells in test_rows(manifest):
        columns = "".join(
            f'<td>{cell.value}<br><span class="interval">{cell.interval}</span></td>' if cell else "<td>&ndash;</td>"
            for cell in cells
        )
        body += f'<tr><th scope="row">{escape(name)}</th>{columns}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
