"""What the documents show of the bundle: the captions of the page's examples, and the answer in README.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pneumo.bundle import load_bundle
from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import FOLDER, load_examples
from pneumo.zoo import CLASS_NAMES
from training.errors import TrainingError

_SHOWN = "person8_virus_27.jpeg"
_ANSWER = re.compile(r"(```json\n).*?(```)", re.DOTALL)
_COUNTS = {1: "one of three", 2: "two of three", 3: "all three"}


def show_bundle(models: Path, readme: Path, examples: Path = FOLDER) -> None:
    """Write both anew.

    Parameters
    ----------
    models : Path
        Folder of the bundle.
    readme : Path
        File with the answer, one block of JSON.
    examples : Path
        Folder of the examples.

    Raises
    ------
    TrainingError
        If the file has no such block.
    """
    text = readme.read_text(encoding="utf-8")
    if not _ANSWER.search(text):
        raise TrainingError(f"The answer's place must be a block of json; {readme} has none. Restore it.")
    examiner = Examiner(load_bundle(models))
    rows = []
    for example in load_examples():
        kind = example.label.split(",")[0]
        answers = examiner.examine(read_radiograph(examples / example.file)).predictions.values()
        wrong = sum(answer.decision.lower() != kind for answer in answers)
        verb = "missed by" if kind.upper() == CLASS_NAMES[1] else "false alarm of"
        caption = f"{kind}, {verb} {_COUNTS[wrong]}" if wrong else example.label
        row = {"file": example.file, "label": example.label, "caption": caption, "wrong": wrong}
        rows.append(json.dumps(row))
    (examples / "examples.json").write_text("[\n" + ",\n".join(f" {row}" for row in rows) + "\n]\n", encoding="utf-8")
    record = examiner.examine(read_radiograph(examples / _SHOWN)).record()
    readme.write_text(_ANSWER.sub(lambda found: found[1] + _laid_out(record) + "\n" + found[2], text), encoding="utf-8")


def _laid_out(record) -> str:
    """The record as JSON, a line for each network's prediction, map and covering."""
    lines = []
    for name, network in record["networks"].items():
        parts = {"saliency": network["saliency"], "covered": network["covered"]}
        own = {key: value for key, value in network.items() if key not in parts}
        inner = ",\n".join(f'   "{key}": {json.dumps(value)}' for key, value in parts.items())
        lines.append(f'  "{name}": {json.dumps(own)[:-1]},\n{inner}}}')
    head = json.dumps({key: record[key] for key in ("file", "operating_point")})[:-1]
    rest = [
        f' "{key}": {json.dumps(value)}'
        for key, value in record.items()
        if key not in ("file", "operating_point", "networks")
    ]
    return f'{head},\n "networks": {{\n' + ",\n".join(lines) + "},\n" + ",\n".join(rest) + "}"
