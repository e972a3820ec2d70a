"""From an examination to the HTML of the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

from pneumo.classifier import Prediction
from pneumo.examination import DISCLAIMER, Examination, heat_words
from pneumo.render import OPACITY, display_pixels, encode_jpeg, encode_png, heat_rgba, legend_rgba
from pneumo.report import percent, probability
from pneumo.saliency import Heatmap
from pneumo.ui.examples import Example
from pneumo.zoo import ARCHITECTURES, architecture

_SIDE = 768
_HEAT_SIDE = 320


@dataclass(frozen=True, slots=True)
class View:
    """What an answer shows: HTML for the place of the verdict and for the place of the cards."""

    verdict: str
    cards: str


def example_buttons(examples: list[Example]) -> str:
    """One button an example, with its picture and its label."""
    buttons = "".join(
        f'<button type="button" data-index="{index}">'
        f'<img alt="" src="{_data_uri("image/jpeg", encode_jpeg(example.thumbnail()))}">'
        f"<span>{escape(example.caption)}</span></button>"
        for index, example in enumerate(examples)
    )
    return f'<section class="examples"><h2>Examples: official test images</h2><div>{buttons}</div></section>'


def toolbar() -> str:
    """Opacity, the switch to the bare radiograph, and the legend. All of it acts in the browser alone."""
    ramp = _data_uri("image/png", encode_png(legend_rgba()))
    start = round(OPACITY * 100)
    return f"""
<div class="tools">
  <label><input type="checkbox" checked id="show-heat"
    onchange="document.documentElement.classList.toggle('heat-off', !this.checked)"> Heatmap</label>
  <label for="heat-opacity">Opacity <input type="range" id="heat-opacity" min="0" max="100" value="{start}"
    oninput="document.documentElement.style.setProperty('--heat-opacity', this.value / 100)"></label>
  <span class="legend"><span>no evidence</span><span class="ramp" role="img"
    aria-label="colours from no evidence to strong evidence" style="background-image: url({ramp})"></span>
    <span>strong</span></span>
  <span class="scale">The scale is fixed for each network and class: strong is the peak that one in ten validation
    images exceeds.</span>
</div>"""


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
    if truth:
        title += f". Label of the data set: <strong>{escape(truth)}</strong>."
    lines = [f'<p class="quiet">{title}</p>', f"<h2>{escape(examination.headline)}</h2>"]
    if examination.meaning:
        # A number and its unit stay on one line.
        lines.append(f"<p>{escape(examination.meaning).replace(' %', '&nbsp;%')}</p>")
    if mean := examination.together:
        lines.append(
            f'<p class="quiet">Mean of the three: {escape(probability(mean.probability))}, {mean.decision} at its '
            f"operating point of {percent(mean.threshold)}. {DISCLAIMER}</p>"
        )
    lines += [f'<p class="quiet">{escape(note)}</p>' for note in (*examination.notices, *radiograph.notes)]
    kind = "" if examination.unanimous else " split"
    cards = "".join(
        _card(examination, name, prediction, examination.heatmaps.get(name))
        for name, prediction in examination.predictions.items()
    )
    style = (
        f"--radiograph: url({_data_uri('image/jpeg', encode_jpeg(display_pixels(radiograph, _SIDE)))}); "
        f"--aspect: {radiograph.width / radiograph.height:.4f}"
    )
    return View(f'<section class="exam verdict{kind}">{"".join(lines)}</section>', _cards(cards, style))


def _cards(content: str, style: str = "") -> str:
    return f'<div class="exam cards" style="{style}">{content}</div>'


def _empty_card(name: str) -> str:
    design = architecture(name)
    return (
        f'<figure class="card"><div class="viewer"><p>no radiograph yet</p></div><figcaption><header><h3>{design.title}'
        f'</h3></header><div class="probability"><span>Probability of pneumonia</span><strong>&ndash;</strong></div>'
        f'<div class="track"></div><span class="quiet">{escape(design.summary[0].upper() + design.summary[1:])}.</span>'
        "</figcaption></figure>"
    )


def _card(examination: Examination, name: str, prediction: Prediction, heatmap: Heatmap | None) -> str:
    design = architecture(name)
    heat, words = "", ""
    if heatmap is not None and heatmap.peak:
        heat = f'<div class="heat" style="background-image: url({_heat_uri(examination, heatmap)})"></div>'
        words = f"Grad-CAM for {heatmap.target}; its peak is {heatmap.peak * 100:.0f}\N{NO-BREAK SPACE}% of the scale."
    elif heatmap is not None:
        words = heat_words(heatmap)
        words = words[0].upper() + words[1:]
    chance = probability(prediction.probability)
    label = f"{design.title}: {prediction.decision}, probability of pneumonia {chance}. {words}"
    return f"""<figure class="card" data-network="{name}">
<div class="viewer"><button type="button" class="film" aria-label="{escape(label)} Press to enlarge." title="Enlarge"
  onclick="document.fullscreenElement ? document.exitFullscreen() : this.parentElement.requestFullscreen?.()"
  >{heat}</button></div>
<figcaption>
<header><h3>{design.title}</h3><span class="decision {prediction.decision}">{prediction.decision}</span></header>
<div class="probability"><span>Probability of pneumonia</span><strong>{escape(chance)}</strong></div>
<div class="track"><div class="fill {prediction.decision}" style="width: {prediction.probability:.2%}"></div>
<div class="point" style="left: {prediction.threshold:.2%}"></div></div>
<span class="quiet">Operating point {percent(prediction.threshold)}: from there on it calls pneumonia.</span>
<span class="quiet">{escape(words)}</span>
</figcaption></figure>"""


def _heat_uri(examination: Examination, heatmap: Heatmap) -> str:
    radiograph = examination.radiograph
    factor = _HEAT_SIDE / max(radiograph.width, radiograph.height)
    size = max(1, round(radiograph.width * factor)), max(1, round(radiograph.height * factor))
    return _data_uri("image/png", encode_png(heat_rgba(heatmap, *size)))


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
