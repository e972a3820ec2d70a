"""The tables say what metrics.json says, and go where their marks are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from pneumo.bundle import ABLATION
from pneumo.errors import BundleError
from pneumo.report import DETAILS, METRICS, title
from training.compare import (
    ablation_table,
    details_table,
    insert_tables,
    lungs_words,
    results_table,
    seeds_table,
    shortcuts_table,
    stress_table,
    tables,
    uncertain_words,
)
from training.errors import TrainingError
from training.published import published

NUMBER = r"[-+]?\d+(?:\.\d+)?"
MARKED = "# Title\n\n<!-- table:test -->\nold\n<!-- /table:test -->\n\nEnd \\1.\n"
TABLES = {"test", "details", "calibration", "seeds", "stress", "originals", "shortcuts", "lungs"}
MEASURED_BY_OTHERS = {"ablation", "gate", "saliency_default", "saliency_held_out", "saliency_test", "systems"}
"""Tables of what the ablation, the gate, the saliency benchmark and the comparison of systems measured."""


@pytest.fixture(scope="module")
def report(bundle_folder) -> dict:
    return json.loads((bundle_folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def made(bundle_folder) -> dict[str, str]:
    return tables(bundle_folder)


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "models"))


def cells(table: str) -> dict[str, list[str]]:
    """The rows of a table by their titles; its head is the row ""."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    assert len({len(line) for line in lines}) == 1
    assert len({line[0] for line in lines}) == len(lines)
    return {name: row for name, *row in lines}


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def said(value: dict) -> list[float]:
    return [value["value"], *value["interval"]]


def test_every_table_of_an_evaluated_bundle(made):
    assert made.keys() == TABLES
    for text in made.values():
        assert not re.search(r"-0\.0+(?!\d)|nan|None|\{|\n\n\n", text)


@pytest.mark.parametrize(("name", "columns"), [("test", METRICS), ("details", DETAILS)])
def test_table_of_measures(made, report, name, columns):
    rows = cells(made[name])
    assert rows[""] == list(columns.values())
    measured = {title(network): found for network, found in report["test"].items()}
    measured |= {floor["title"]: floor["test"] for floor in report["floors"]}
    assert [key for key in rows if key and not key.startswith("published")] == list(measured)
    for key, found in measured.items():
        for cell, column in zip(rows[key], columns, strict=True):
            if column not in found:
                assert cell == "-"
                continue
            scale, digits = (100, 0.05) if "%" in cell else (1, 0.0005)
            assert numbers(cell) == pytest.approx([scale * value for value in said(found[column])], abs=digits + 1e-9)


def test_differences_to_the_floor(made, report):
    sentence = made["test"].split("\n\n")[1]
    for name in ("cnn", "cnn_lstm", "cnn_rnn"):
        text = re.search(rf"{title(name)} ({NUMBER} \[{NUMBER}, {NUMBER}\])", sentence)[1]
        assert numbers(text) == pytest.approx(said(report["test"][name]["auc_above_floor"]), abs=0.00051)


def test_table_of_seeds(made, report):
    rows = cells(made["seeds"])
    for name, found in report["seeds"].items():
        count, auc, *others = rows[title(name)]
        assert int(count) == len(found["seeds"])
        spreads = list(found["spread"].values())
        assert [part for cell in (auc.split(" [")[0], *others) for part in numbers(cell)] == pytest.approx(
            [part for spread in spreads for part in (spread["mean"], spread["sd"]) if part is not None], abs=0.00051
        )
        assert numbers(auc)[-2:] == pytest.approx(found["auc"]["interval"], abs=0.00051)
        assert all(("±" in cell) == (len(found["seeds"]) > 1) for cell in (auc, *others))
    assert rows["goal"][1:] == ["at least 0.985", "at least 0.945", "at least 0.92", "at least 0.92", "at most 0.04"]


def test_table_of_stress(made, report):
    rows = cells(made["stress"])
    for name, networks in report["stress"].items():
        for cell, found in zip(rows[name], networks.values(), strict=True):
            expected = [found["auc"], *found["intervals"]["auc"]]
            expected += [-found["loss_of_sensitivity"], -found["loss_of_specificity"], found["flips"]]
            assert numbers(cell) == pytest.approx(expected, abs=0.00051)
    losses = [
        max(
            max(row[name]["loss_of_sensitivity"], row[name]["loss_of_specificity"]) for row in report["stress"].values()
        )
        for name in report["test"]
    ]
    (found,) = (row for name, row in rows.items() if "largest loss" in name)
    assert [float(cell) for cell in found] == pytest.approx(losses, abs=0.00051)


def test_table_of_originals(made, report):
    for row, networks in zip(list(cells(made["originals"]).items())[1:], report["originals"].values(), strict=True):
        assert f", {networks['images']} images" in row[0]
        for cell, name in zip(row[1], report["test"], strict=True):
            expected = [networks[name]["flips"], networks[name]["mean_change"]]
            assert numbers(cell) == pytest.approx(expected, abs=0.00051)


def test_table_of_shortcuts(made, report):
    rows = cells(made["shortcuts"])
    assert rows[""] == [*(title(name) for name in report["test"]), "no network"]
    for name, networks in report["shortcuts"].items():
        *others, last = rows[name]
        assert last == "-"
        for cell, found in zip(others, networks.values(), strict=True):
            assert numbers(cell) == pytest.approx(said(found), abs=0.00051)
    measured = {floor["title"]: floor["test"]["auc"] for floor in report["floors"]}
    assert list(rows)[len(report["shortcuts"]) + 1 :] == [
        "the file's size in bytes alone",
        "the original aspect ratio alone",
        "the original's width and height alone",
    ]
    for name in ("the file's size in bytes", "the original aspect ratio", "the original's width and height"):
        *others, last = rows[f"{name} alone"]
        assert set(others) == {"-"}
        assert numbers(last) == pytest.approx(said(measured[f"floor: {name}"]), abs=0.00051)


def test_words_on_the_lungs(made, report):
    lungs = report["lungs"]
    expected = [lungs["images"], *said(lungs["dice"]), *said(lungs["iou"]), lungs["images"] - lungs["not_found"]]
    assert numbers(made["lungs"]) == pytest.approx(expected, abs=0.00051)
    assert "found on 7 of" in lungs_words(lungs | {"images": 9, "not_found": 2})


def test_another_recipe_beside(bundle_folder, report):
    beside = {"recipe": "reference", **{part: report[part] for part in ("test", "stress", "shortcuts")}}
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    for make in (results_table, details_table):
        rows = cells(make(manifest, report | {"beside": beside}))
        for name in report["test"]:
            assert rows[f"reference recipe: {title(name)}"] == rows[title(name)]
        assert not [key for key in cells(make(manifest)) if key.startswith("reference")]
    for make, part in ((stress_table, "stress"), (shortcuts_table, "shortcuts")):
        rows = cells(make(report[part], beside))
        assert rows[""][-1].startswith("reference recipe: mean of the networks")
        assert all(row[-1] == row[-2] for name, row in rows.items() if name)


def test_tables_of_a_bundle_with_another_recipe_beside(copy, report):
    """What stands beside reaches every table that has a place for it."""
    other = json.loads(json.dumps(report))
    for entries in other["stress"].values():
        entries["together"] |= {"auc": 0.123, "loss_of_specificity": 0.456}
    beside = {"recipe": "reference", **{part: other[part] for part in ("test", "stress", "shortcuts")}}
    (copy / "metrics.json").write_text(json.dumps(report | {"beside": beside}))
    made = tables(copy)
    for name in ("test", "details"):
        assert f"| reference recipe: {title('together')} | " in made[name]
    rows = cells(made["stress"])
    assert [row[-1].startswith("0.123") for name, row in rows.items() if name] == [True] * len(report["stress"]) + [
        False
    ]
    assert list(rows.values())[-1][-1] == "0.456"


@pytest.mark.parametrize("older", [False, True])
def test_evaluation_without_intervals_of_stress_has_its_table_too(copy, report, older):
    stress = json.loads(json.dumps(report["stress"]))
    for entries in stress.values() if older else ():
        for entry in entries.values():
            del entry["intervals"]
    (copy / "metrics.json").write_text(json.dumps(report | {"stress": stress}))
    made = tables(copy)["stress"]
    for cell in cells(made)["blur"]:
        assert ("[" in cell) != older
        assert len(numbers(cell)) == (4 if older else 6)
    assert ("could not differ" in made) == older


def test_published_results_are_beside_and_each_names_its_source(made):
    rows, sentences = cells(made["test"]), made["test"].split("\n\n")[-1]
    entries = published()["test"]
    titles = [key for key in rows if key.startswith("published")]
    assert len(titles) == len(entries) > 1
    for key, entry in zip(titles, entries, strict=True):
        year = f", {entry['year']}" if entry["year"] else ""
        assert key == f"published: {entry['citation']}{year} ({entry['model']})"
        for cell, (column, words) in zip(rows[key], METRICS.items(), strict=True):
            if column not in entry["figures"]:
                assert cell == "-", words
                continue
            scale, digits = (100, 0.05) if "%" in cell else (1, 0.0005)
            assert numbers(cell) == pytest.approx([scale * entry["figures"][column]], abs=digits + 1e-9)
        assert (f"https://doi.org/{entry['doi']}" if "doi" in entry else entry["arxiv"]) in sentences
        assert entry["measured_on"] in sentences
        assert entry["chosen"] in sentences
    for part in ("stress", "shortcuts"):
        (entry,) = published()[part]
        assert f"{entry['measured_on']}: {entry['finding']} ([arXiv:{entry['arxiv']}](" in made[part].split("\n\n")[-1]


def test_published_results_are_whole():
    """Figures of known measures, each between 0 and 1, from a text that is named."""
    assert published().keys() == {"test", "stress", "shortcuts"}
    for part, entries in published().items():
        for entry in entries:
            assert {"citation", "year", "measured_on", "read_in"} <= entry.keys()
            assert ("doi" in entry) != ("arxiv" in entry)
            assert all(isinstance(entry[key], str) and entry[key] for key in entry.keys() - {"year", "figures"})
            if part == "test":
                assert entry["figures"].keys() <= METRICS.keys()
                assert entry["figures"]
                assert all(0.5 < figure < 1 for figure in entry["figures"].values())
                assert {"model", "chosen"} <= entry.keys()


def test_only_what_was_measured_has_a_table(copy, report):
    less = {key: value for key, value in report.items() if key in ("test", "stress", "floors")}
    (copy / "metrics.json").write_text(json.dumps(less | {"shortcuts": {}}))
    assert tables(copy).keys() == {"test", "details", "calibration", "stress"}
    (copy / "metrics.json").unlink()
    with pytest.raises(TrainingError, match=r"Tables need an evaluated bundle; .*training evaluate"):
        tables(copy)
    with pytest.raises(BundleError):
        tables(copy / "absent")


# --- numbers made up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "words"), [(0.0, "+0.000"), (2e-4, "+0.000"), (-2e-4, "+0.000"), (6e-4, "-0.001")])
def test_never_minus_zero(loss, words):
    entry = {"auc": 0.9, "loss_of_sensitivity": loss, "loss_of_specificity": loss, "flips": 0}
    assert f"0.900; {words} / {words}; 0" in stress_table({"blur": {"cnn": entry}})
    difference = {"value": -loss, "interval": [-loss, -loss]}
    manifest = {"networks": {"cnn": {"test": {"auc_above_floor": difference}}}, "together": None}
    assert f"CNN {words} [{words}, {words}]" in results_table(manifest)


def test_one_seed_has_no_spread():
    spread = {key: {"mean": 0.9, "sd": None} for key in ("auc", "accuracy", "sensitivity", "specificity", "ece")}
    seeds = {"cnn": {"seeds": [{}], "spread": spread, "auc": {"interval": [0.8, 0.95]}}}
    assert cells(seeds_table(seeds))["CNN"] == ["1", "0.900 [0.800, 0.950]", *["0.900"] * 4]


def test_uncertain_words():
    certain = {"value": 0.96, "interval": [0.93, 0.98]}
    assert uncertain_words({"images": 12, "share": 0.019, "accuracy_certain": certain}) == (
        "12 test images (1.9 %) get the answer uncertain; on the others 96.0 % of the decisions are right "
        "(95 % interval 93.0 % to 98.0 %)."
    )
    everything = {"images": 624, "share": 1.0, "accuracy_certain": {"value": None, "interval": [0, 1]}}
    assert uncertain_words(everything) == "All 624 test images (100.0 %) get the answer uncertain."


def shortcuts(**values: tuple[float, float]) -> dict:
    """AUC and upper end of the interval of the CNN and of the mean."""
    return {
        name.replace("_", " "): {
            network: {"value": value, "interval": [value - 0.05, value + 0.05]}
            for network, value in zip(("cnn", "together"), pair, strict=True)
        }
        for name, pair in values.items()
    }


def test_words_under_the_shortcuts_follow_the_figures(copy, report):
    manifest = json.loads((copy / "manifest.json").read_text())

    def words(found: dict, other: float | None = None, blind: float = 0.15) -> str:
        for entry in manifest["networks"].values():
            entry["recipe"]["augmentation"]["blind"] = blind
        (copy / "manifest.json").write_text(json.dumps(manifest))
        alone = report | {"shortcuts": shortcuts(**found)}
        if other:
            beside = shortcuts(**dict.fromkeys(found, (0.5, other)))
            alone["beside"] = {"recipe": "reference", "shortcuts": beside}
        (copy / "metrics.json").write_text(json.dumps(alone))
        return tables(copy)["shortcuts"].split("\n\n")[1]

    found = {"lungs_black": (0.66, 0.65), "lungs_gray": (0.33, 0.47), "lungs_filled_from_around": (0.92, 0.91)}
    text = words(found, other=0.877)
    assert text.startswith(
        "Lungs black and lungs gray are fills that the recipe trains on: 15 % of the training images"
    )
    assert "alone it is no evidence that the networks look at lungs" in text
    assert "still CNN 0.920, mean of the networks 0.910; the last is above the reference recipe's 0.877" in text
    assert text.endswith("(CNN, lungs gray: 0.330 tells as much as 0.670).")
    assert "not above the reference recipe's 0.930" in words(found, other=0.93)
    assert "recipe's" not in words(found)
    assert "trains on" not in words(found, blind=0.0)
    assert "Lungs gray are" not in words(found, blind=0.0)
    assert "mirror image" not in words(found | {"lungs_gray": (0.46, 0.47)}), "chance is in the interval"


def test_ablation_table(copy):
    def part(auc: float) -> dict:
        shortcuts = {
            "all but the lungs black": 0.9,
            "lungs black": 0.6,
            "lungs gray": 0.65,
            "lungs filled from around": 0.55,
            "border ring alone": 0.5,
        }
        interval = {"value": auc, "interval": [auc - 0.01, auc + 0.01]}
        return {"auc": interval, "stressed": auc - 0.1, "shortcuts": shortcuts, "ece": 0.05}

    results = {
        name: {
            "title": f"{name} cell",
            "score": score,
            "spread": 0.002,
            "recipe": {"balance": balance, "epochs": 5, "batch_size": 32},
            "validation": part(0.98),
            "block": part(0.97),
        }
        for name, score, balance in (("worse", 0.91, "none"), ("better", 0.93, "smote"))
    }
    (copy / ABLATION).write_text(json.dumps(results))
    manifest = json.loads((copy / "manifest.json").read_text())
    assert tables(copy)["ablation"] == ablation_table(results, manifest["data"]["counts"]["train"])
    rows = cells(ablation_table(results, {"NORMAL": 1102, "PNEUMONIA": 2906}))
    assert list(rows)[1:] == ["better cell", "worse cell"]
    assert rows["better cell"][1] == "910", "182 batches of the 5,812 images of both classes, five times"
    assert rows["worse cell"] == [
        "0.9100 ± 0.0020",
        "630",
        "0.980 [0.970, 0.990]",
        "0.970 [0.960, 0.980]",
        "0.880 / 0.870",
        "0.900 / 0.900",
        "0.600 / 0.600",
        "0.650 / 0.650",
        "0.550 / 0.550",
        "0.050 / 0.050",
    ]


# --- marks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["| a |", "| \\1 \\g<0> \\g<1> |", "| < 0.1 % |\n|---|", "| C:\\new \\\\ |"])
def test_table_is_put_between_the_marks(tmp_path, content):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED)
    for _ in range(2):
        insert_tables(readme, {"test": content})
        assert readme.read_text() == MARKED.replace("old", content)


def test_only_marked_tables_are_replaced(tmp_path):
    readme = tmp_path / "README.md"
    more = MARKED + "<!-- table:stress -->\n<!-- /table:stress -->\n<!-- table:mine -->\nkept\n<!-- /table:mine -->\n"
    readme.write_text(more)
    insert_tables(readme, {"test": "new", "stress": "stressed", "seeds": "nowhere"})
    assert readme.read_text() == more.replace("old", "new").replace("stress -->\n", "stress -->\nstressed\n", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Title\n",
        "<!-- table:test -->\n",
        "<!-- /table:test -->\n<!-- table:test -->\n",
        "<!-- table:stress -->\n<!-- /table:stress -->\n",
    ],
)
def test_file_without_the_mark_is_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(TrainingError, match="table:test"):
        insert_tables(readme, {"stress": "| b |", "test": "| a |"})
    assert readme.read_text() == text


@pytest.mark.parametrize("name", ["absent.md", ".", "binary.md"])
def test_file_that_cannot_be_read(tmp_path, name):
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="must be text that can be read"):
        insert_tables(tmp_path / name, {"test": "| a |"})


def test_marks_of_the_readme_are_those_of_the_tables():
    text = (ROOT / "README.md").read_text()
    marks = re.findall(r"<!-- (/?)table:(\w+) -->\n", text)
    assert [name for end, name in marks if not end] == [name for end, name in marks if end]
    assert {name for _, name in marks} == TABLES | MEASURED_BY_OTHERS
