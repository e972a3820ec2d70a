"""From an examination to the HTML of the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

from pneumo.classifier import Prediction
from pneumo.covering import Covering
from pneumo.evidence import Evidence
from pneumo.examination import DISCLAIMER, Examination, uncertain_words
from pneumo.framing import RASTER, Box
from pneumo.lungs import Lungs
from pneumo.methods import METHODS
from pneumo.radiograph import Radiograph
from pneumo.render import OPACITY, display_pixels, encode_jpeg, encode_png, heat_rgba, legend_rgba, outline
from pneumo.report import CALIBRATED, percent, probability
from pneumo.saliency import Heatmap, HeatStatus
from pneumo.sanity import SanityCheck
from pneumo.ui.examples import Example
from pneumo.zoo import ARCHITECTURES, architecture

POINTS = {
    "balanced": "Balanced: weighs missed pneumonias and false alarms alike.",
    "screening": "Screening: misses fewer pneumonias, more false alarms.",
    "custom": "Custom: your own threshold.",
}
"""The operating points that the page offers, each in one line."""
_CONTOURS = (0.25, 0.5)
_SIDE = 768
_HEAT_SIDE = 320
_ANSWERED = "exam verdict answer"


@dataclass(frozen=True, slots=True)
class View:
    """What an answer shows: HTML for the place of the verdict and for the place of the cards."""

    verdict: str
    cards: str


def sanity_view(checks: list[SanityCheck], radiograph: Radiograph) -> str:
    """The maps of networks that have learnt nothing, and how like those of the trained ones they are."""
    figures = "".join(
        '<figure class="card"><div class="viewer">'
        f'<div class="film" role="img" aria-label="{_explained(check.heatmap)}"><div class="heat" '
        f' style="background-image: url({_heat_uri(radiograph, check.heatmap)})"></div></div></div>'
        f"<figcaption><header><h3>{architecture(check.network).title}, random weights</h3></header>"
        f'<span class="quiet">{_explained(check.heatmap)}. {escape(check.words)}</span></figcaption></figure>'
        for check in checks
    )
    return _cards(figures, _radiograph_style(radiograph), radiograph.name)


def example_buttons(examples: list[Example]) -> str:
    """One button an example, with its picture and its label."""
    buttons = "".join(
        f'<button type="button" data-index="{index}">'
        f'<img alt="" src="{_data_uri("image/jpeg", encode_jpeg(example.thumbnail()))}">'
        f"<span>{escape(example.caption)}</span></button>"
        for index, example in enumerate(examples)
    )
    return f'<section class="examples"><h2>Examples: official test images</h2><div>{buttons}</div></section>'


def point_lines() -> str:
    """What each operating point means; the style sheet shows the line of the chosen one."""
    return "".join(f'<span class="{name}">{escape(line)}</span>' for name, line in POINTS.items())


def toolbar() -> str:
    """Opacity, the switches of heat and lungs, and the legend. All of it acts in the browser alone."""
    ramp = _data_uri("image/png", encode_png(legend_rgba()))
    start = round(OPACITY * 100)
    return f"""
<div class="tools">
  <label><input type="checkbox" checked id="show-heat"
    onchange="document.documentElement.classList.toggle('heat-off', !this.checked)"> Heatmap</label>
  <label for="heat-opacity">Opacity <input type="range" id="heat-opacity" min="0" max="100" value="{start}"
    oninput="document.documentElement.style.setProperty('--heat-opacity', this.value / 100)"></label>
  <label>View <select id="view" autocomplete="off"
    onchange="document.documentElement.dataset.view = this.value">
    <option value="overlay">overlay</option><option value="contour">contours</option>
    <option value="beside">side by side</option></select></label>
  <label><input type="checkbox" id="show-lungs" autocomplete="off"
    onchange="document.documentElement.classList.toggle('lungs-on', this.checked)"> Lung outline</label>
  <span class="key"><i></i> lungs <i class="seen"></i> box shown to the network</span>
  <span class="legend"><span>no evidence</span><span class="ramp" role="img"
    aria-label="colours from no evidence to strong evidence" style="background-image: url({ramp})"></span>
    <span>strong</span></span>
</div>"""


def paint_switch() -> str:
    """The switch that makes a stroke over a radiograph cover what it passes."""
    return """<label><input type="checkbox" id="paint" autocomplete="off"
onchange="document.documentElement.classList.toggle('painting', this.checked)"> what I paint</label>"""


def reading_notes() -> str:
    """What the numbers and the colours mean."""
    first, _, rest = CALIBRATED.partition(" ")
    return f"""<p class="side-note reading"><strong>{first}</strong> {rest} The tab <em>The numbers</em> says what they
were worth on the test images.
<strong>Heat</strong> has a fixed scale for each network and class: strong is the peak that one in ten held-out images
with any heat exceeds. It lies inside the box that the networks were shown. Integrated HiResCAM tells what sets a
radiograph off from the same one blurred away, and finds little where a lung is evenly white.
<strong>Contours</strong> are drawn at a quarter and at half of that scale. <strong>Covering</strong> fills a region
from its surroundings and asks the networks again: if a map is right, the answer moves. An answer that stays may be
right too, and what is filled in may look like disease to a network: the tour in the teaching room shows both lungs
filled in.</p>"""


def empty_view() -> View:
    """The page before the first radiograph, in the same layout."""
    return View(
        '<section class="exam verdict"><h2>Choose an example, or add a chest X-ray.</h2>'
        "<p>Three networks read it at once, each with its probability, its decision, and a map of where it looked.</p>"
        "</section>",
        _cards("".join(_empty_card(name) for name in ARCHITECTURES)),
    )


def refusal_view(title: str, message: str) -> View:
    """Why there is no answer."""
    return View(
        f'<section class="exam verdict refused" role="alert"><h2>{escape(title)}</h2>'
        f"<p>{escape(message)}</p></section>",
        empty_view().cards,
    )


def forgotten_view() -> View:
    """Why the radiograph on show cannot be decided anew."""
    return refusal_view("This radiograph is no longer kept.", "Add it again to decide it at another operating point.")


def is_answer(verdict: str) -> bool:
    """Whether the place of the verdict shows an examination."""
    return _ANSWERED in verdict


def examination_view(examination: Examination, truth: str = "") -> View:
    """All of an examination.

    Parameters
    ----------
    examination : Examination
    truth : str
        What is known of an example, in a few words; "" for a visitor's own radiograph.
    """
    radiograph = examination.radiograph
    title = f"{escape(radiograph.name)}, {radiograph.width} x {radiograph.height} pixels"
    if radiograph.header:
        title += f". DICOM header: {escape(radiograph.header.words)}."
    if truth:
        title += f". Label of the data set: <strong>{escape(truth)}</strong>."
    mean = examination.together
    uncertain = mean is not None and mean.uncertain
    badge = '<span class="badge">? UNCERTAIN</span> ' if uncertain else ""
    lines = [
        f'<p class="quiet">{badge}<span class="radiograph">{title}</span></p>',
        f"<h2>{escape(examination.headline)}</h2>",
    ]
    lines[:0] = [*map(_warning, examination.urgent_warnings), _correction(examination)]
    words = f"{uncertain_words(mean) if mean and uncertain else ''} {examination.meaning}".strip()
    lines += [f"<p>{_unbroken(words)}</p>"] if words else []
    point = f"the {_point_title(examination)} operating point"
    if mean is not None:
        summary = f"Mean of the networks: {probability(mean.probability)}, {mean.decision} at {point}"
        lines.append(f'<p class="quiet">{_unbroken(f"{summary} of {percent(mean.threshold)}. {DISCLAIMER}")}</p>')
    else:
        lines.append(f'<p class="quiet">Decided at {point}. {DISCLAIMER}</p>')
    lines += [f'<p class="quiet">{escape(note)}</p>' for note in (*examination.notices, *radiograph.notes)]
    lines += [f'<p class="quiet">{escape(warning)}</p>' for warning in examination.heat_warnings]
    kind = " uncertain" if uncertain else "" if examination.unanimous else " split"
    evidence = examination.heat_evidence
    cards = "".join(
        _card(examination, name, prediction, examination.heatmaps.get(name), evidence.get(name))
        for name, prediction in examination.predictions.items()
    )
    return View(
        f'<section class="{_ANSWERED}{kind}">{"".join(lines)}</section>',
        _cards(cards, _radiograph_style(radiograph), radiograph.name),
    )


def _warning(words: str) -> str:
    return f'<p class="warning" role="alert">{_unbroken(words)}</p>'


def _correction(examination: Examination) -> str:
    """The button that has the radiograph turned or inverted and read again; "" if it lies as it should."""
    judged = examination.judgement
    if judged is None or not judged.correction:
        return ""
    return (
        f'<p><button type="button" class="correct" data-turn="{judged.turn}" data-invert="{int(judged.invert)}">'
        f"{judged.correction}</button></p>"
    )


def _radiograph_style(radiograph: Radiograph) -> str:
    picture = _data_uri("image/jpeg", encode_jpeg(display_pixels(radiograph, _SIDE)))
    return f"--radiograph: url({picture}); --aspect: {radiograph.width / radiograph.height:.4f}"


def _cards(content: str, style: str = "", name: str = "") -> str:
    return f'<div class="exam cards" data-radiograph="{escape(name)}" style="{style}">{content}</div>'


def _empty_card(name: str) -> str:
    design = architecture(name)
    return (
        f'<figure class="card"><div class="viewer"><p>no radiograph yet</p></div><figcaption><header><h3>{design.title}'
        f'</h3></header><div class="probability"><span>Probability of pneumonia</span><strong>&ndash;</strong></div>'
        f'<div class="track"></div><span class="quiet">{escape(design.summary[0].upper() + design.summary[1:])}.</span>'
        "</figcaption></figure>"
    )


def _card(
    examination: Examination, name: str, prediction: Prediction, heatmap: Heatmap | None, evidence: Evidence | None
) -> str:
    design = architecture(name)
    heat, words, contours = "", "", ""
    if heatmap is not None and heatmap.status is HeatStatus.DRAWN:
        contours = _contours(heatmap)
        heat = f'<div class="heat" style="background-image: url({_heat_uri(examination.radiograph, heatmap)})"></div>'
        peak = f"{(heatmap.peak or 0) * 100:.0f}\N{NO-BREAK SPACE}%"
        words = f"{_explained(heatmap)}; its peak is {peak} of the scale."
        if evidence:
            words += f" {evidence.words}"
    elif heatmap is not None:
        words = heatmap.status_words
        words = words[0].upper() + words[1:]
    covering = examination.coverings.get(name)
    overlay = contours + _covered(covering) + _overlay(examination.lungs, heatmap.box if heatmap else None)
    chance = probability(prediction.probability)
    label = f"{design.title}: {prediction.decision}, probability of pneumonia {chance}. {words}"
    return f"""<figure class="card" data-network="{name}">
<div class="viewer"><div class="film plain" aria-hidden="true"></div><button type="button" class="film"
  aria-label="{escape(label)} Press to enlarge." title="Enlarge" onclick="document.documentElement.classList.contains(
  'painting') || (document.fullscreenElement ? document.exitFullscreen() : this.parentElement.requestFullscreen?.())"
  >{heat}{overlay}</button></div>
<figcaption>
<header><h3>{design.title}</h3><span class="decision {prediction.decision}">{prediction.decision}</span></header>
<div class="probability"><span>Probability of pneumonia</span><strong>{escape(chance)}</strong></div>
<div class="track"><div class="fill {prediction.decision}" style="width: {prediction.probability:.2%}"></div>
<div class="point" style="left: {prediction.threshold:.2%}"></div></div>
<span class="quiet">{_point_title(examination).capitalize()} operating point {_unbroken(percent(prediction.threshold))}:
from there on it calls pneumonia.</span>
<span class="quiet">{escape(words)}</span>
{f'<strong class="covering">{_unbroken(covering.words)}</strong>' if covering else ""}
{_zone_table(evidence) if evidence else ""}
{_dicom_link(examination, name) if heat and examination.radiograph.header else ""}
</figcaption></figure>"""


def _explained(heatmap: Heatmap) -> str:
    return f"{METHODS[heatmap.method].title} for {heatmap.target}"


def _dicom_link(examination: Examination, network: str) -> str:
    # Imported only now: it imports pydicom.
    from pneumo.secondary_capture import secondary_capture

    data = _data_uri("application/dicom", secondary_capture(examination, network))
    file = f"{examination.radiograph.name}.{network}.dcm"
    return f'<a class="quiet" download="{escape(file)}" href="{data}">This picture as DICOM</a>'


def _zone_table(evidence: Evidence) -> str:
    """Shares of the heat by zone, as a reader looks at the radiograph: the patient's right on the left."""
    rows = "".join(
        f'<tr><th scope="row">{height}</th>'
        + "".join(f"<td>{_unbroken(percent(evidence.zones[f'{side}_{height}'], 0))}</td>" for side in ("right", "left"))
        + "</tr>"
        for height in ("upper", "middle", "lower")
    )
    outside = _unbroken(percent(1 - evidence.share_in_lungs, 0))
    return (
        '<details><summary>Evidence by zone</summary><table><thead><tr><th scope="col">zone</th>'
        '<th scope="col">right lung</th><th scope="col">left lung</th></tr></thead>'
        f'<tbody>{rows}<tr><th scope="row">outside</th><td colspan="2">{outside}</td></tr></tbody></table></details>'
    )


def _contours(heatmap: Heatmap) -> str:
    """Lines where the heat reaches a quarter and half of the scale."""
    heat = heatmap.placed(RASTER, RASTER) / heatmap.scale
    return _drawing("contour", "".join(f'<path d="{outline(heat >= level)}"/>' for level in _CONTOURS))


def _covered(covering: Covering | None) -> str:
    return _drawing("covered", f'<path d="{outline(covering.mask)}"/>') if covering else ""


def _drawing(kind: str, paths: str) -> str:
    return (
        f'<svg class="drawing {kind}" viewBox="0 0 {RASTER} {RASTER}" preserveAspectRatio="none" aria-hidden="true">'
        f"{paths}</svg>"
    )


def _overlay(lungs: Lungs | None, box: Box | None) -> str:
    """The outlines of the lungs, and the box that the network saw; each line twice, dark below light."""
    if lungs is None or not lungs.found:
        return ""
    path = f'<path d="{outline(lungs.right)}{outline(lungs.left)}"/>'
    if box:
        left, top, right, bottom = (f"{edge * RASTER:.1f}" for edge in (box.left, box.top, box.right, box.bottom))
        path = f'<path class="seen" d="M{left} {top}H{right}V{bottom}H{left}Z"/>{path}'
    return (
        f'<svg class="outline" viewBox="0 0 {RASTER} {RASTER}" preserveAspectRatio="none" aria-hidden="true">'
        f'<g class="halo">{path}</g><g class="line">{path}</g></svg>'
    )


def _point_title(examination: Examination) -> str:
    return examination.operating_point if isinstance(examination.operating_point, str) else "custom"


def _unbroken(text: str) -> str:
    """Text as HTML in which a number and its unit stay on one line."""
    return escape(text).replace(" %", "&nbsp;%")


def _heat_uri(radiograph: Radiograph, heatmap: Heatmap) -> str:
    factor = _HEAT_SIDE / max(radiograph.width, radiograph.height)
    size = max(1, round(radiograph.width * factor)), max(1, round(radiograph.height * factor))
    return _data_uri("image/png", encode_png(heat_rgba(heatmap, *size)))


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
