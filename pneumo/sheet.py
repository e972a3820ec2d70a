"""An examination on one page, as a PDF with real text and as a PNG of that PDF. No patient and no file is named."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

import cv2
import numpy as np
import pypdfium2
from reportlab.lib.colors import Color, HexColor, black, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

from pneumo import __version__
from pneumo.bundle import Bundle, is_on_hub
from pneumo.examination import DISCLAIMER, Examination
from pneumo.methods import METHODS
from pneumo.render import display_pixels, encode_png, legend_rgba, overlay
from pneumo.report import percent, probability
from pneumo.saliency import HeatStatus
from pneumo.zoo import CLASS_NAMES, architecture

DOTS_PER_INCH = 150
"""Of the PNG: an A4 page has 1240 x 1754 pixels."""
_WIDTH, _HEIGHT = A4
_MARGIN, _GAP = 36.0, 12.0
_INNER = _WIDTH - 2 * _MARGIN
_COLOURS = {CLASS_NAMES[0]: HexColor(0x0072B2), CLASS_NAMES[1]: HexColor(0xB8480A)}
_QUIET, _LINE, _ALERT, _CAUTION = (HexColor(value) for value in (0x4B5563, 0xD1D5DB, 0xB3261E, 0xE69F00))
# Sizes of the text and of the pictures that are tried until all of it is on the page.
_SIZES = [(text, picture) for text in (1.0, 0.94, 0.88, 0.8, 0.72, 0.64, 0.56) for picture in (1.0, 0.88, 0.76)]
_MORE = "More warnings do not fit on this page; those of the JSON are complete."
# The name by which the radiograph without heat is kept among the pictures of the networks.
_PLAIN = ""
# PDFium is not made for several threads.
_RENDERING = threading.Lock()


def sheet_pdf(examination: Examination, bundle: Bundle) -> bytes:
    """All of an examination on one A4 page.

    It says what `Examination.record` says, but for the name of the file: a radiograph is known by its SHA-256. The same
    examination gives the same bytes.

    Parameters
    ----------
    examination : Examination
    bundle : Bundle
        The networks that made it.
    """
    warnings, pictures = list(examination.warnings), _pictures(examination)
    sheet = _lay_out(examination, bundle, pictures, warnings)
    while sheet.bottom > _HEIGHT - _MARGIN and len(warnings) > 1:
        # More than any page holds.
        warnings = [*warnings[: (len(warnings) - 1) // 2], _MORE]
        sheet = _lay_out(examination, bundle, pictures, warnings)
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle("pneumo: one chest radiograph, read by neural networks")
    canvas.setAuthor(f"pneumo {__version__}")
    canvas.setSubject(DISCLAIMER)
    for draw in sheet.drawings:
        draw(canvas)
    canvas.save()
    return stream.getvalue()


def sheet_png(pdf: bytes) -> bytes:
    """The first page of a PDF as a PNG of `DOTS_PER_INCH`."""
    with _RENDERING:
        document = pypdfium2.PdfDocument(pdf)
        try:
            pixels = document[0].render(scale=DOTS_PER_INCH / 72, rev_byteorder=True).to_numpy()[..., :3].copy()
        finally:
            document.close()
    return encode_png(pixels)


@dataclass
class _Sheet:
    """A page that is being laid out: what is to be drawn, and how far down it reaches, in points from the top."""

    scale: float
    bottom: float = _MARGIN
    drawings: list[Callable[[Canvas], None]] = field(default_factory=list)

    def text(self, words: str, left: float, top: float, width: float, size: float = 8.5, **style: object) -> float:
        """Wrap words into a column; return where they end."""
        size *= self.scale
        given = {"fontName": "Helvetica", "fontSize": size, "leading": size * 1.28, "splitLongWords": 1, **style}
        paragraph = Paragraph(_markup(words), ParagraphStyle("", **given))
        height = paragraph.wrap(width, 10 * _HEIGHT)[1]
        self.drawings.append(lambda canvas: paragraph.drawOn(canvas, left, _HEIGHT - top - height))
        return top + height

    def block(self, left: float, top: float, width: float, height: float, fill: Color, stroke: Color | None = None):
        """A filled rectangle."""

        def draw(canvas: Canvas) -> None:
            canvas.setFillColor(fill)
            canvas.setStrokeColor(stroke or fill)
            canvas.setLineWidth(0.6)
            canvas.rect(left, _HEIGHT - top - height, width, height, stroke=int(stroke is not None), fill=1)

        self.drawings.append(draw)

    def picture(self, picture: ImageReader, left: float, top: float, width: float, most: float) -> float:
        """A picture at its own aspect ratio, in a black frame if it is narrow; return where it ends."""
        wide, high = picture.getSize()
        height = min(most, width * high / wide)
        factor = height / high
        self.block(left, top, width, height, black)
        wide, high = wide * factor, high * factor
        x, y = left + (width - wide) / 2, _HEIGHT - top - height
        self.drawings.append(lambda canvas: canvas.drawImage(picture, x, y, wide, high))
        return top + height


def _pictures(examination: Examination) -> dict[str, ImageReader]:
    """The radiograph, under `_PLAIN`, and what is shown of each network's heatmap."""
    radiograph = examination.radiograph
    plain = _jpeg(display_pixels(radiograph))
    maps = {
        name: _jpeg(overlay(radiograph, heatmap)) if heatmap.status is HeatStatus.DRAWN else plain
        for name, heatmap in examination.heatmaps.items()
    }
    return {_PLAIN: plain, **maps}


def _lay_out(examination: Examination, bundle: Bundle, pictures: dict[str, ImageReader], warnings: list[str]) -> _Sheet:
    """The largest text and pictures with which all of it is on one page; else the smallest."""
    for text, picture in _SIZES:
        sheet = _Sheet(text)
        _head(sheet)
        _answer(sheet, examination, pictures[_PLAIN], 230 * picture)
        _cards(sheet, examination, pictures, 190 * picture)
        _warnings(sheet, warnings)
        _versions(sheet, examination, bundle)
        if sheet.bottom <= _HEIGHT - _MARGIN:
            break
    return sheet


def _head(sheet: _Sheet) -> None:
    top = sheet.bottom
    sheet.text("<b>pneumo</b>", _MARGIN, top, 90, 19 / sheet.scale)
    sheet.text(
        "One chest radiograph, read by neural networks", _MARGIN, top + 25, 250, 9 / sheet.scale, textColor=_QUIET
    )
    width = 238.0
    left = _WIDTH - _MARGIN - width
    sheet.block(left, top + 4, width, 24, white, _LINE)
    sheet.block(left, top + 4, 4, 24, _CAUTION)
    sheet.text(f"<b>{DISCLAIMER}</b>", left + 4, top + 9.5, width - 4, 9.5 / sheet.scale, alignment=1)
    sheet.block(_MARGIN, top + 42, _INNER, 0.6, _LINE)
    sheet.bottom = top + 52


def _answer(sheet: _Sheet, examination: Examination, plain: ImageReader, height: float) -> None:
    top, width = sheet.bottom, 0.42 * _INNER
    bottom = sheet.picture(plain, _MARGIN, top, width, height)
    left, column = _MARGIN + width + _GAP, _INNER - width - _GAP
    radiograph, mean = examination.radiograph, examination.together
    end = sheet.text(f"<b>{_plain(examination.headline)}</b>", left, top - 3, column, 13.5) + 4
    if examination.meaning:
        end = sheet.text(_plain(examination.meaning), left, end, column) + 4
    if mean is not None:
        uncertain = " <b>UNCERTAIN.</b>" if mean.uncertain else ""
        words = f"<b>Mean of all networks:</b> {_plain(probability(mean.probability))}, "
        words += f"{_decision(mean.decision)} at {_point(examination)} of {percent(mean.threshold)}.{uncertain}"
        end = sheet.text(words, left, end, column) + 4
    words = f"Radiograph: {radiograph.format}, {radiograph.width} \N{MULTIPLICATION SIGN} {radiograph.height} pixels."
    if radiograph.header:
        words += f" DICOM header: {_plain(radiograph.header.words)}."
    end = sheet.text(words, left, end, column, textColor=_QUIET) + 1
    end = sheet.text(f"SHA-256 {radiograph.sha256}", left, end, column, 6.2, textColor=_QUIET)
    sheet.bottom = max(bottom, end) + _GAP


def _cards(sheet: _Sheet, examination: Examination, pictures: dict[str, ImageReader], height: float) -> None:
    columns = max(3, len(examination.predictions))
    width = (_INNER - (columns - 1) * _GAP) / columns
    ends = []
    for number, (name, prediction) in enumerate(examination.predictions.items()):
        left, top = _MARGIN + number * (width + _GAP), sheet.bottom
        if name in pictures:
            top = sheet.picture(pictures[name], left, top, width, height) + 5
        sheet.text(_decision(prediction.decision), left, top, width, 9.5, alignment=TA_RIGHT)
        end = sheet.text(f"<b>{architecture(name).title}</b>", left, top, width, 9.5) + 2
        sheet.text(f"<b>{_plain(probability(prediction.probability))}</b>", left, end, width, 9.5, alignment=TA_RIGHT)
        end = sheet.text("Probability of pneumonia", left, end, width, 8.5) + 3
        sheet.block(left, end, width, 5, _LINE)
        sheet.block(left, end, max(1.0, width * prediction.probability), 5, _COLOURS[prediction.decision])
        sheet.block(left + width * prediction.threshold - 0.6, end - 2, 1.2, 9, black)
        point = f"{_point(examination).removeprefix('the ').capitalize()} {percent(prediction.threshold)}"
        end = (
            sheet.text(f"{point}: from there on it calls pneumonia.", left, end + 10, width, 7.6, textColor=_QUIET) + 2
        )
        heatmap, evidence = examination.heatmaps.get(name), examination.heat_evidence.get(name)
        if heatmap is not None:
            words = heatmap.status_words
            if heatmap.status is HeatStatus.DRAWN:
                peak = percent(heatmap.peak or 0, 0)
                words = f"{METHODS[heatmap.method].title} for {heatmap.target}; its peak is {peak} of the scale."
            end = sheet.text(_plain(words), left, end, width, 7.6, textColor=_QUIET) + 2
        if evidence:
            end = sheet.text(_plain(evidence.words), left, end, width, 8.5) + 2
        if covering := examination.coverings.get(name):
            end = sheet.text(f"<b>{_plain(covering.words)}</b>", left, end, width, 8.5) + 2
        ends.append(end)
    sheet.bottom = max(ends) + 4
    if examination.heatmaps:
        _legend(sheet)


def _legend(sheet: _Sheet) -> None:
    top, ramp = sheet.bottom, legend_rgba(256, 8).astype(np.float32)
    # As on a radiograph of middle gray.
    share = ramp[..., 3:] / 255
    colours = _jpeg(np.rint(107 * (1 - share) + ramp[..., :3] * share).astype(np.uint8))
    sheet.text("Heat: no evidence", _MARGIN, top, 90, 7.6, textColor=_QUIET)
    sheet.drawings.append(lambda canvas: canvas.drawImage(colours, _MARGIN + 78, _HEIGHT - top - 9, 90, 7))
    words = "strong: the peak that one in ten held-out images with any heat exceeds"
    sheet.bottom = sheet.text(words, _MARGIN + 174, top, _INNER - 174, 7.6, textColor=_QUIET) + _GAP


def _warnings(sheet: _Sheet, warnings: list[str]) -> None:
    top = sheet.bottom
    title = "Warnings" if warnings else "No warnings."
    end = sheet.text(f"<b>{title}</b>", _MARGIN + 10, top, _INNER - 10, 9.5) + 2
    for warning in warnings:
        end = (
            sheet.text(
                f"\N{EN DASH} {_plain(warning)}", _MARGIN + 10, end, _INNER - 10, leftIndent=8, firstLineIndent=-8
            )
            + 1
        )
    sheet.block(_MARGIN, top, 3, end - top, _ALERT if warnings else _LINE)
    sheet.bottom = end + _GAP


def _versions(sheet: _Sheet, examination: Examination, bundle: Bundle) -> None:
    top = sheet.bottom
    sheet.block(_MARGIN, top, _INNER, 0.6, _LINE)
    end = sheet.text("<b>Networks, by the SHA-256 of their weights</b>", _MARGIN, top + 5, _INNER, 7.6) + 1
    for name in examination.predictions:
        sheet.text(architecture(name).title, _MARGIN, end, 60, 7, textColor=_QUIET)
        words = bundle.manifest["networks"][name]["sha256"]
        end = sheet.text(words, _MARGIN + 60, end, _INNER - 60, 7, textColor=_QUIET, fontName="Courier")
    origin = bundle.location if is_on_hub(bundle.location) else "those of this installation"
    words = (
        f"Program: pneumo {__version__}. Networks: {_plain(origin)}. Trained on children of one to five years from one "
        "hospital: on other people, machines or diseases the answers mean nothing. Heatmaps show where a network found "
        f"evidence, not where the disease is. <b>{DISCLAIMER}</b>"
    )
    sheet.bottom = sheet.text(words, _MARGIN, end + 3, _INNER, 7.6)


def _decision(decision: str) -> str:
    return f'<font color="#{_COLOURS[decision].hexval()[2:]}"><b>{decision}</b></font>'


def _point(examination: Examination) -> str:
    point = examination.operating_point
    return f"the {point if isinstance(point, str) else 'custom'} operating point"


def _plain(words: str) -> str:
    """Words as they are, for `_Sheet.text`, which takes markup."""
    return escape(words, quote=False)


def _markup(words: str) -> str:
    """Without letters that the PDF's own fonts lack, and with a number and its unit on one line."""
    return words.encode("cp1252", "replace").decode("cp1252").replace(" %", "\N{NO-BREAK SPACE}%")


def _jpeg(pixels: np.ndarray) -> ImageReader:
    """Gray or RGB values as a picture that the PDF holds as it is."""
    colours = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return ImageReader(io.BytesIO(cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()))
