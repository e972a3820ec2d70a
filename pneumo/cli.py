"""The command line: `python -m pneumo predict FILE|DIR|ZIP...`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TextIO

from pneumo.bundle import LOCATION_VARIABLE, OPERATING_POINTS, load_bundle
from pneumo.classifier import JointPrediction, Prediction, parse_operating_point
from pneumo.cluster import on_cluster
from pneumo.covering import COVERS, HOTTEST
from pneumo.errors import PneumoError, UnknownNameError
from pneumo.examination import DECIDED, DISCLAIMER, TARGETS, Examination, Examiner
from pneumo.intake import sources_of_paths
from pneumo.methods import DEFAULT_METHOD, METHODS
from pneumo.radiograph import KINDS, TURNS, corrected
from pneumo.records import csv_columns, csv_row
from pneumo.render import encode_png, overlay
from pneumo.report import CALIBRATED, probability
from pneumo.saliency import HeatStatus
from pneumo.schema import examination_schema
from pneumo.score import Engine, score
from pneumo.zoo import architecture

_NONE = "none"
_REPORTS = (".pdf", ".png")
_ENGINES: dict[str, Engine | None] = {"local": None, "ray": on_cluster}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 if any input was refused."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not text is printed with escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except PneumoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; what Python still holds of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pneumo", description=f"Reads chest X-rays. {DISCLAIMER}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser(
        "predict",
        help="read radiographs and print what each network says",
        description=f"Reads radiographs, prints what each network says, and can draw where it looked. {DISCLAIMER}",
    )
    predict.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE|DIR|ZIP", help=f"{KINDS} files, folders or ZIP archives of them"
    )
    predict.add_argument(
        "--file-names",
        action="store_true",
        help="call DICOM files by their own names, which may be a patient's, not by the start of their SHA-256",
    )
    predict.add_argument("--format", choices=_WRITERS, default="table", help="default: table")
    _add_networks(predict)
    predict.add_argument("--saliency", choices=METHODS, help=f"heatmap method (default if needed: {DEFAULT_METHOD})")
    predict.add_argument(
        "--target", choices=TARGETS, default=DECIDED, help=f"class to explain (default: {DECIDED}, by each network)"
    )
    predict.add_argument(
        "--cover",
        choices=list(filter(None, COVERS)),
        default="",
        help=f"cover a lung zone and ask again; {HOTTEST}: that of each network's own map",
    )
    predict.add_argument(
        "--turn",
        type=int,
        choices=TURNS,
        default=0,
        help="turn the radiographs by so many degrees, clockwise, before they are read",
    )
    predict.add_argument("--invert", action="store_true", help="exchange black and white before they are read")
    predict.add_argument(
        "--anyway", action="store_true", help="answer, with a warning, even what is taken for no chest radiograph"
    )
    predict.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write the radiographs with their heatmaps here, of DICOM inputs also as DICOM",
    )
    predict.add_argument(
        "--report", type=Path, metavar="FILE.pdf|FILE.png", help="write a one-page report of the one radiograph here"
    )
    predict.set_defaults(run=_predict)
    many = commands.add_parser(
        "score",
        help="read very many radiographs into one Parquet file",
        description="Reads every radiograph of a folder tree, a ZIP archive, or a Parquet file of paths or bytes, and "
        "writes one row each: probabilities, decisions, and where the evidence lies. One that is refused is a row with "
        f"its error. Interrupted and started again, it goes on where it was. {DISCLAIMER}",
    )
    many.add_argument("source", type=Path, metavar="SOURCE", help="a folder, a ZIP archive or a Parquet file")
    many.add_argument("--out", type=Path, required=True, metavar="FILE", help="the result, a new Parquet file")
    many.add_argument("--column", metavar="NAME", help="paths or bytes of a Parquet source (default: a usual name)")
    _add_networks(many)
    many.add_argument(
        "--saliency",
        choices=[*METHODS, _NONE],
        default=DEFAULT_METHOD,
        help=f"heatmap method of the evidence (default: {DEFAULT_METHOD})",
    )
    many.add_argument(
        "--engine",
        choices=_ENGINES,
        default=next(iter(_ENGINES)),
        help="local: this machine; ray: a Ray cluster, that which RAY_ADDRESS names (default: local)",
    )
    many.set_defaults(run=_score)
    schema = commands.add_parser("schema", help="print the JSON Schema of what predict --format json prints")
    schema.set_defaults(run=_schema)
    return parser


def _schema(_options: argparse.Namespace) -> int:
    print(json.dumps(examination_schema(), indent=2))
    return 0


def _add_networks(parser: argparse.ArgumentParser) -> None:
    """The options by which networks, and how they decide, are chosen."""
    parser.add_argument("--models", metavar="NAME[,NAME...]", help="networks to ask (default: all)")
    parser.add_argument(
        "--bundle",
        metavar="LOCATION",
        help="trained networks to use: a folder, or hf://OWNER/NAME@REVISION "
        f"(default: {LOCATION_VARIABLE}, else the embedded ones)",
    )
    parser.add_argument(
        "--operating-point",
        metavar=f"{'|'.join(OPERATING_POINTS)}|NUMBER",
        default=OPERATING_POINTS[0],
        help="from which probability on a network calls pneumonia: screening misses fewer pneumonias and gives more "
        f"false alarms; a number between 0 and 1 is taken for all networks (default: {OPERATING_POINTS[0]})",
    )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An input that was not answered, and why."""

    file: str
    error: str


class _Writer(Protocol):
    def add(self, file: str, answer: Examination | _Refusal) -> None: ...

    def close(self) -> None: ...


def _predict(options: argparse.Namespace) -> int:
    names = _names(options)
    operating_point = parse_operating_point(options.operating_point)
    if options.report:
        _check_report(options)
    explains = options.out or options.report or options.cover == HOTTEST or options.target != DECIDED
    method = options.saliency or (DEFAULT_METHOD if explains else None)
    examiner = Examiner(load_bundle(options.bundle, names), method)
    pictures = _Pictures(options.out) if options.out else None
    writer = _WRITERS[options.format](sys.stdout, tuple(examiner.bundle.networks), operating_point)
    refused = False
    for source in sources_of_paths(options.inputs):
        file = source.name
        answer: Examination | _Refusal
        try:
            radiograph = corrected(source.read(), options.turn, options.invert)
            if options.file_names:
                radiograph = replace(radiograph, name=file)
            file = radiograph.name
            answer = examination = examiner.examine(
                radiograph, operating_point, target=options.target, cover=options.cover, anyway=options.anyway
            )
            if pictures:
                pictures.write(Path(file), examination)
            if options.report:
                _write_report(options.report, examination, examiner)
        except PneumoError as error:
            if error.file and not options.file_names:
                file = error.file
            answer = _Refusal(file, str(error))
            refused = True
        writer.add(file, answer)
    writer.close()
    return int(refused)


def _names(options: argparse.Namespace) -> tuple[str, ...] | None:
    """The networks that --models names; None for all."""
    names = tuple(filter(None, options.models.split(","))) if options.models else None
    for name in names or ():
        if "/" in name:
            raise UnknownNameError(f"--models takes names of networks; received {name!r}. Use --bundle for a location.")
    if names == ():
        raise UnknownNameError(
            f"--models takes names of networks; received {options.models!r}. Name one, or leave it out."
        )
    return names


def _score(options: argparse.Namespace) -> int:
    names, operating_point = _names(options), parse_operating_point(options.operating_point)
    method = None if options.saliency == _NONE else options.saliency
    done = score(
        options.source,
        options.out,
        lambda: Examiner(load_bundle(options.bundle, names), method),
        operating_point,
        options.column,
        sys.stderr,
        _ENGINES[options.engine],
    )
    rate = f", {done.asked:,} of them now, {done.asked / done.seconds:.1f} a second" if done.asked else ""
    print(f"{options.out}: {done.rows:,} rows, {done.refused:,} of them refused{rate}. {DISCLAIMER}")
    return 0


class _Pictures:
    """Writes overlays, under names that never collide."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PneumoError(
                f"--out must be a folder that can be made; {folder}: {error.strerror or error}. Name another."
            ) from error

    def write(self, path: Path, examination: Examination) -> None:
        stem, number = path.stem, 2
        while stem in self._taken:
            stem, number = f"{path.stem}-{number}", number + 1
        self._taken.add(stem)
        for name, heatmap in examination.heatmaps.items():
            if heatmap.status is HeatStatus.DRAWN:
                target = self._folder / f"{stem}.{name}.{heatmap.method}.png"
                try:
                    target.write_bytes(encode_png(overlay(examination.radiograph, heatmap)))
                    if examination.radiograph.header:
                        # Imported only now: it imports pydicom.
                        from pneumo.secondary_capture import secondary_capture

                        target.with_suffix(".dcm").write_bytes(secondary_capture(examination, name))
                except OSError as error:
                    raise PneumoError(
                        f"--out must be a folder that can be written to; {target}: {error.strerror or error}. "
                        "Name another."
                    ) from error


def _check_report(options: argparse.Namespace) -> None:
    if options.report.suffix.lower() not in _REPORTS:
        raise PneumoError(
            f"--report writes {' or '.join(_REPORTS)} files; received {options.report.name!r}. Correct its ending."
        )
    if sum(1 for _ in islice(sources_of_paths(options.inputs), 2)) != 1:
        raise PneumoError("--report takes one radiograph; received several. Name one.")


def _write_report(path: Path, examination: Examination, examiner: Examiner) -> None:
    # Whoever wants no report does not wait for its libraries.
    from pneumo.sheet import sheet_pdf, sheet_png

    content = sheet_pdf(examination, examiner.bundle)
    try:
        path.write_bytes(sheet_png(content) if path.suffix.lower() == ".png" else content)
    except OSError as error:
        raise PneumoError(
            f"--report must be a file that can be written; {path}: {error.strerror or error}. Name another."
        ) from error


class _JsonWriter:
    """One JSON object a line, an input each."""

    def __init__(self, stream: TextIO, networks: tuple[str, ...], operating_point: str | float) -> None:
        self._stream = stream

    def add(self, file: str, answer: Examination | _Refusal) -> None:
        if isinstance(answer, _Refusal):
            content: dict = {"file": file, "error": answer.error}
        else:
            content = dict(answer.record())
        print(json.dumps(content, ensure_ascii=False), file=self._stream, flush=True)

    def close(self) -> None:
        pass


class _CsvWriter:
    """A header and one row an input."""

    def __init__(self, stream: TextIO, networks: tuple[str, ...], operating_point: str | float) -> None:
        self._writer = csv.DictWriter(stream, csv_columns(networks))
        self._writer.writeheader()

    def add(self, file: str, answer: Examination | _Refusal) -> None:
        if isinstance(answer, _Refusal):
            self._writer.writerow({"file": file, "error": answer.error})
        else:
            self._writer.writerow(csv_row(file, answer.record()))

    def close(self) -> None:
        pass


class _TableWriter:
    """Aligned columns for a person."""

    def __init__(self, stream: TextIO, networks: tuple[str, ...], operating_point: str | float) -> None:
        self._stream = stream
        self._point = f"the {operating_point} operating point" if isinstance(operating_point, str) else operating_point
        self._titles = [*(architecture(name).title for name in networks), "together"]
        # Words alone are kept until the widths are known: examinations hold whole images.
        self._rows: list[tuple[str, list[str]]] = []
        self._notes: list[str] = []

    def add(self, file: str, answer: Examination | _Refusal) -> None:
        if isinstance(answer, _Refusal):
            self._rows.append((file, ["refused"]))
            self._notes.append(answer.error)
            return
        cells = [*answer.predictions.values(), answer.together]
        self._rows.append((file, [_cell(cell) if cell else "-" for cell in cells]))
        covered = [f"{architecture(name).title}: {item.words}" for name, item in answer.coverings.items()]
        self._notes += [f"{file}: {note}" for note in (*answer.warnings, *covered)]

    def close(self) -> None:
        table = [("file", self._titles), *self._rows]
        width = max(len(file) for file, _ in table)
        for file, words in table:
            line = f"{file:<{width}}  " + "  ".join(f"{word:<18}" for word in words)
            print(line.rstrip(), file=self._stream)
        for note in self._notes:
            print(f"\n{note}", file=self._stream)
        print(f"\nDecided at {self._point}. {CALIBRATED} {DISCLAIMER}", file=self._stream)


def _cell(prediction: Prediction) -> str:
    words = f"{prediction.decision:<9} {probability(prediction.probability):>8}"
    return f"{words} uncertain" if isinstance(prediction, JointPrediction) and prediction.uncertain else words


_WRITERS: dict[str, Callable[[TextIO, tuple[str, ...], str | float], _Writer]] = {
    "table": _TableWriter,
    "json": _JsonWriter,
    "csv": _CsvWriter,
}
