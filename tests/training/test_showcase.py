"""What the documents show of a bundle is what its networks say."""

import json
import re
import shutil

import pytest
from conftest import ROOT

from pneumo.radiograph import read_radiograph
from pneumo.ui.examples import FOLDER
from training.cli import main
from training.errors import TrainingError
from training.showcase import show_bundle


@pytest.fixture(scope="module")
def shown(bundle_folder, tmp_path_factory):
    """Folder with README.md and the examples, written for the tiny networks."""
    folder = tmp_path_factory.mktemp("shown")
    examples = shutil.copytree(FOLDER, folder / "examples")
    readme = shutil.copy(ROOT / "README.md", folder / "README.md")
    show_bundle(bundle_folder, readme, examples)
    return folder


def test_captions_count_the_networks_that_are_wrong(shown, tiny_examiner):
    before = json.loads((FOLDER / "examples.json").read_text())
    after = json.loads((shown / "examples" / "examples.json").read_text())
    assert [(row["file"], row["label"]) for row in after] == [(row["file"], row["label"]) for row in before]
    for row in after:
        answers = tiny_examiner.examine(read_radiograph(FOLDER / row["file"])).predictions.values()
        truth = row["label"].split(",")[0]
        assert row["wrong"] == sum(answer.decision.lower() != truth for answer in answers)
        fault = "missed by" if truth == "pneumonia" else "false alarm of"
        assert (fault in row["caption"]) == (row["wrong"] > 0)


def test_answer_is_the_program_s_and_nothing_else_changes(shown, tiny_examiner):
    before, after = ((folder / "README.md").read_text() for folder in (ROOT, shown))
    block = re.compile(r"```json\n(.*?)```", re.DOTALL)
    assert (
        json.loads(block.search(after)[1])
        == tiny_examiner.examine(read_radiograph(FOLDER / "person8_virus_27.jpeg")).record()
    )
    assert block.sub("", after) == block.sub("", before)


def test_readme_without_a_place_for_it_is_refused(bundle_folder, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Nothing\n")
    with pytest.raises(TrainingError, match="must be a block of json"):
        show_bundle(bundle_folder, readme)
    assert main(["showcase", "--models", str(bundle_folder), "--readme", str(readme)]) == 1
    assert readme.read_text() == "# Nothing\n"
