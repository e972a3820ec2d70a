"""Several radiographs at once on the page: examined one after the other, shown as a table that fills."""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape

from pneumo.classifier import JointPrediction, Prediction
from pneumo.errors import BundleError, PneumoError
from pneumo.examination import DISCLAIMER, Examination
from pneumo.intake import Source
from pneumo.radiograph import Radiograph
from pneumo.records import csv_columns, csv_row
from pneumo.report import percent, probability
from pneumo.ui.views import View
from pneumo.zoo import ARCHITECTURES, CLASS_NAMES, architecture

MAX_FILES = 500
"""Files of one batch; the rest is refused."""
INTERVAL = 0.5
"""Seconds between two states of the table that are sent to the page."""
SORT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (!button) return;
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const falling = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const key = (row) => row.cells[head.cellIndex].dataset.key ?? row.cells[head.cellIndex].textContent;
  const compare = (a, b) => {
    // Files without an answer come last, however the others are sorted.
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    return (falling ? -1 : 1) * key(a).localeCompare(key(b), "en", { numeric: true });
  };
  body.append(...[...body.rows].sort(compare));
});
"""
"""Sorts the table by the column whose title is pressed; once more, the other way round."""
TOGETHER = "together"
"""Stands for the mean of the networks among their names."""
# What a spreadsheet would take for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t")


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a batch: its examination as a row for CSV and in cells for the page.

    Attributes
    ----------
    file : str
        What it is called.
    predictions : dict of str to Prediction or None
        Of each network, and of "together"; empty if it was refused.
    notes : tuple of str
        Warnings, or why it was refused.
    urgent : tuple of str
        Those of the notes that are shown without being asked for.
    record : dict
        As `pneumo.records.csv_row` gives it.
    """

    file: str
    predictions: dict[str, Prediction | None]
    notes: tuple[str, ...]
    urgent: tuple[str, ...]
    record: dict


def examine_all(
    sources: Iterator[Source], examine: Callable[[Radiograph], Examination], interval: float = INTERVAL
) -> Iterator[list[Row]]:
    """Examine files one after the other.

    Yields
    ------
    list of Row
        All so far, every `interval` seconds and at the end. What is refused is a row with the reason.

    Raises
    ------
    BundleError
        If the networks cannot be loaded.
    """
    rows: list[Row] = []
    sent = time.monotonic()
    for source in sources:
        rows.append(_row(source, examine, len(rows)))
        if time.monotonic() - sent >= interval:
            yield rows
            sent = time.monotonic()
    yield rows


def batch_view(rows: list[Row], total: int, point: str | float) -> View:
    """The table of a batch, and what it amounts to.

    Parameters
    ----------
    rows : list of Row
    total : int
        How many there will be.
    point : str or float
        The operating point: the name of one, or a threshold.
    """
    done = len(rows) >= total
    words = f"the {point} operating point" if isinstance(point, str) else f"an operating point of {percent(point)}"
    answered = [row for row in rows if row.predictions]
    positive = sum(row.record.get("together.decision") == CLASS_NAMES[1] for row in answered)
    counts = f"{len(answered)} answered, {len(rows) - len(answered)} refused"
    title = f"{len(rows)} files: {counts}." if done else f"Reading file {len(rows) + 1} of {total}: {counts} so far."
    # The name by which the page knows that it shows the same batch as before.
    lines = [f'<p class="quiet"><span class="radiograph">Several radiographs</span></p><h2>{title}</h2>']
    if not done:
        lines.append(f'<progress max="{total}" value="{len(rows)}" aria-label="files read"></progress>')
    lines.append(
        f"<p>Together the networks call pneumonia in {positive} of {len(answered)}, at {words}. {DISCLAIMER}</p>"
        '<p class="quiet">Another operating point: choose it, and add the files again.</p>'
    )
    if done and rows:
        lines.append(f'<p><a download="pneumo.csv" href="{_csv_uri(rows)}">Download the table as CSV</a></p>')
    networks = next((tuple(row.predictions) for row in answered), (*ARCHITECTURES, TOGETHER))
    titles = ["No.", "File", *map(_title, networks), "Warnings, or why not"]
    head = "".join(f'<th scope="col"><button type="button">{escape(title)}</button></th>' for title in titles)
    body = "".join(_table_row(number, row, networks) for number, row in enumerate(rows, 1))
    return View(
        f'<section class="exam verdict batch">{"".join(lines)}</section>',
        f'<div class="exam batch"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
    )


def _row(source: Source, examine: Callable[[Radiograph], Examination], before: int) -> Row:
    file = source.name
    try:
        if before >= MAX_FILES:
            raise PneumoError(f"A batch may have at most {MAX_FILES} files. Upload the rest as another.")
        radiograph = source.read()
        file = radiograph.name
        examination = examine(radiograph)
    except BundleError:
        raise
    except PneumoError as error:
        file = error.file or file
        return Row(file, {}, (str(error),), (str(error),), {"file": file, "error": str(error)})
    predictions = {**examination.predictions, TOGETHER: examination.together}
    return Row(
        file, predictions, examination.warnings, examination.urgent_warnings, csv_row(file, examination.record())
    )


def _title(network: str) -> str:
    return "Together" if network == TOGETHER else architecture(network).title


def _table_row(number: int, row: Row, networks: tuple[str, ...]) -> str:
    cells = [f'<td data-key="{number}">{number}</td><th scope="row">{escape(row.file)}</th>']
    for network in networks:
        prediction = row.predictions.get(network)
        if prediction is None:
            cells.append('<td data-key=""></td>')
            continue
        decision, words = prediction.decision, probability(prediction.probability)
        if isinstance(prediction, JointPrediction) and prediction.uncertain:
            words += ", uncertain"
        cells.append(
            f'<td data-key="{prediction.probability:.6f}"><span class="decision {decision}">{decision}</span> '
            f"{escape(words)}</td>".replace(" %", "&nbsp;%")
        )
    folded = [note for note in row.notes if note not in row.urgent]
    shown = _list(row.urgent)
    if folded:
        more = f"{len(folded)} {'more ' if row.urgent else ''}warning{'s' if len(folded) > 1 else ''}"
        shown += f"<details><summary>{more}</summary>{_list(folded)}</details>"
    # By the number of warnings; what was refused comes first or last.
    cells.append(f'<td data-key="{len(row.notes) if row.predictions else 99}">{shown}</td>')
    return f'<tr class="{"" if row.predictions else "refused"}">{"".join(cells)}</tr>'


def _list(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def _csv_uri(rows: list[Row]) -> str:
    stream = io.StringIO()
    networks = next((tuple(row.predictions)[:-1] for row in rows if row.predictions), tuple(ARCHITECTURES))
    writer = csv.DictWriter(stream, csv_columns(networks))
    writer.writeheader()
    for row in rows:
        file = f"'{row.file}" if row.file.startswith(_FORMULAS) else row.file
        writer.writerow({**row.record, "file": file})
    return f"data:text/csv;base64,{base64.b64encode(stream.getvalue().encode()).decode()}"
