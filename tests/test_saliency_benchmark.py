"""The measures of `python -m benchmarks saliency`, on a judge whose evidence is known."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from benchmarks.saliency import BASELINES, _Case, _curves, _imputed, _Judge, _road, _Spare, saliency
from pneumo.bundle import EMBEDDED, MANIFEST, SALIENCY, load_bundle
from pneumo.methods import METHODS
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Explainer
from pneumo.sanity import randomised
from pneumo.zoo import ARCHITECTURES
from training.compare import saliency_table

SIZE = 56


class Judge:
    """Looks at one corner alone: its probability is what is bright there."""

    def ask(self, images: np.ndarray) -> np.ndarray:
        return np.clip(images[:, :16, :16].mean(axis=(1, 2)), 0, 1)


@pytest.fixture
def image() -> np.ndarray:
    """Bright in that corner, black elsewhere."""
    found = np.zeros((SIZE, SIZE), np.float32)
    found[:16, :16] = 1
    return found


def corner(row: int, column: int) -> np.ndarray:
    values = np.zeros((14, 14))
    values[row : row + 4, column : column + 4] = 1
    return values


def test_right_map_deletes_at_once_and_inserts_at_once(image):
    deletion, insertion = _curves(Judge(), image, corner(0, 0))
    assert insertion - deletion > 0.2
    wrong_deletion, wrong_insertion = _curves(Judge(), image, corner(10, 10))
    assert wrong_deletion > deletion
    assert wrong_insertion < insertion
    random = np.random.default_rng(0).random((14, 14))
    assert abs(np.diff(_curves(Judge(), image, random))[0]) < 0.2


def test_flat_map_is_a_random_order(image):
    assert abs(np.diff(_curves(Judge(), image, np.zeros((7, 7))))[0]) < 0.2


def test_road_tells_the_hottest_from_the_coldest(image):
    assert _road(Judge(), image, corner(0, 0)) > 0.3
    assert _road(Judge(), image, -corner(0, 0)) < -0.3


def test_imputation_is_linear():
    """What is harmonic is filled exactly: a plane among them."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(float)
    plane = 3 * rows - 2 * columns + 7
    mask = np.zeros((SIZE, SIZE), bool)
    mask[10:30, 20:40] = True
    mask[45, 5] = True
    np.testing.assert_allclose(_imputed(np.where(mask, -1000, plane), mask), plane, atol=1e-9)


def test_whole_benchmark(manifest, masks, runs, tmp_path, capsys):
    """With the networks that ship, on two of the shipped pneumonias; the runs are those of other, tiny networks."""
    models, methods = shutil.copytree(EMBEDDED, tmp_path / "models"), ["hirescam"]
    (models / SALIENCY).write_text('{"held out": {"images": 1, "networks": {}}}')
    saliency(2, "test", manifest, masks, runs / "none", models, methods)
    measured = json.loads((models / SALIENCY).read_text())
    assert set(measured) == {"held out", "test"}
    content = measured["test"]
    assert content["networks"].keys() == ARCHITECTURES.keys()
    for found in content["networks"].values():
        assert list(found["methods"]) == methods
        assert found["baselines"].keys() == set(BASELINES)
        for row in found["methods"].values():
            low, high = row["gain"]["interval"]
            assert low <= row["gain"]["value"] <= high
            assert row["gain"]["value"] == pytest.approx(row["insertion"]["value"] - row["deletion"]["value"])
            assert 0 <= row["share"]["value"] <= 1
            assert 0 <= row["blank"] <= 1
            assert row["images"] == content["images"]
    table = saliency_table(content)
    assert table in capsys.readouterr().out
    assert table.count("\n") == 1 + 3 * (len(methods) + len(BASELINES))


@pytest.mark.parametrize("method", METHODS)
def test_spare_network_draws_the_maps_of_the_one_whose_weights_it_takes(bundle_folder, images, method):
    bundle = load_bundle(bundle_folder)
    prepared = bundle.prepare(read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg"))
    spare = _Spare(_Judge(bundle, "cnn"), method)
    for seed in (1, 2):
        model = randomised(bundle.networks["cnn"].model, seed=seed)
        network = dataclasses.replace(bundle.networks["cnn"], model=model)
        explainer = Explainer(dataclasses.replace(bundle, networks={"cnn": network}), method)
        expected = explainer.evidence("cnn", [prepared], "PNEUMONIA")[0]
        (found,) = spare.maps(model, [_Case(prepared, prepared.lungs)])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_nothing_to_measure_is_said(manifest, masks, runs, bundle_folder, tmp_path):
    """Networks that never call pneumonia."""
    models = shutil.copytree(bundle_folder, tmp_path / "models")
    content = json.loads((models / MANIFEST).read_text())
    for entry in content["networks"].values():
        entry["operating_points"]["balanced"]["threshold"] = 0.999999
    (models / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="No pneumonia"):
        saliency(2, "test", manifest, masks, runs, models)
