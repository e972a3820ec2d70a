"""The published JSON Schema: that of the program, and what the program says fits it."""

import copy
import json

import jsonschema
import numpy as np
import pytest
from conftest import ROOT
from dicom_files import dicom_file

from pneumo import cli
from pneumo.covering import HOTTEST
from pneumo.radiograph import read_radiograph
from pneumo.schema import examination_schema

PUBLISHED = ROOT / "docs" / "examination.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def record(images, examiner) -> dict:
    pixels = read_radiograph(images / "test" / "PNEUMONIA" / "person122_bacteria_582.jpeg").pixels
    radiograph = read_radiograph(dicom_file(pixels, PatientAge="030Y"))
    return json.loads(json.dumps(examiner.examine(radiograph, cover=HOTTEST).record()))


def test_published_schema_is_that_of_the_program(capsys):
    """Made by `python -m pneumo schema > docs/examination.schema.json`."""
    assert cli.main(["schema"]) == 0
    assert capsys.readouterr().out == PUBLISHED.read_text()
    assert json.loads(PUBLISHED.read_text()) == examination_schema()


def test_examination_fits(record, validator):
    assert record["header"]["age"] == "18 years or more"
    assert all(network["covered"] for network in record["networks"].values())
    validator.validate(record)


@pytest.mark.parametrize("choices", [{"operating_point": 0.3, "target": "NORMAL"}, {"operating_point": "screening"}])
def test_other_examinations_fit(images, examiner, validator, choices):
    for path in sorted((images / "test" / "NORMAL").iterdir())[:2]:
        validator.validate(examiner.examine(read_radiograph(path), **choices).record())


def test_examination_without_lungs_fits(examiner, validator):
    record = examiner.examine(read_radiograph(np.full((80, 80), 7, np.uint8)), anyway=True).record()
    assert record["lungs"]["box"] is None
    validator.validate(record)


def test_refusal_fits(tmp_path, capsys, validator):
    (tmp_path / "text.png").write_text("no radiograph")
    assert cli.main(["predict", "--format", "json", str(tmp_path / "text.png")]) == 1
    refusal = json.loads(capsys.readouterr().out)
    assert "error" in refusal
    validator.validate(refusal)


ALTERED = {
    "a probability beyond 1": lambda record: record["networks"]["cnn"].update(probability=1.5),
    "a class that there is not": lambda record: record["together"].update(decision="COVID"),
    "a zone that there is not": lambda record: record["networks"]["cnn"]["saliency"]["zones"].update(middle=0.1),
    "a name": lambda record: record["header"].update(patient="PLANTED"),
    "a body part of another's words": lambda record: record["header"].update(body_part="PLANTED"),
    "no summary": lambda record: record.pop("summary"),
    "warnings that are no list": lambda record: record.update(warnings="none"),
    "a box of three edges": lambda record: record["lungs"].update(box=[0, 0, 1]),
    "a method that there is not": lambda record: record["networks"]["cnn"]["saliency"].update(method="magic"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_does_not_fit(record, validator, name):
    altered = copy.deepcopy(record)
    ALTERED[name](altered)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(altered)
