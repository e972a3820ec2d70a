"""The sanity check: random networks, and how like two maps are."""

import numpy as np
import pytest
import scipy.stats

from pneumo.examination import Examiner
from pneumo.radiograph import read_radiograph
from pneumo.saliency import Explainer, HeatStatus
from pneumo.sanity import SanityCheck, SanityChecker, randomised, rank_correlation, untrained
from pneumo.zoo import ARCHITECTURES


@pytest.fixture(scope="module")
def bundle(tiny_examiner):
    return tiny_examiner.bundle


@pytest.fixture(scope="module")
def prepared(bundle, images):
    return bundle.prepare(read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_that_was_learnt_is_forgotten(bundle, name):
    trained = bundle.networks[name].model
    random = untrained(bundle).networks[name].model
    for old, new in zip(trained.layers, random.layers, strict=True):
        assert old.name == new.name
        for before, after in zip(old.get_weights(), new.get_weights(), strict=True):
            assert before.shape == after.shape
            if before.ndim > 1:
                assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.7
                assert after.std() > 0
    same, other = untrained(bundle).networks[name].model, untrained(bundle, seed=1).networks[name].model
    inputs = np.random.default_rng(0).normal(size=(2, *trained.inputs[0].shape[1:])).astype(np.float32)
    assert np.array_equal(same(inputs), random(inputs))
    assert not np.array_equal(other(inputs), random(inputs))
    assert not np.allclose(trained(inputs), random(inputs))


def test_other_layers_keep_what_they_learnt(bundle):
    trained = bundle.networks["cnn_lstm"].model
    changed = randomised(trained, {"dense", "norm2"})
    for old, new in zip(trained.layers, changed.layers, strict=True):
        same = all(map(np.array_equal, old.get_weights(), new.get_weights()))
        assert same is (old.name not in ("dense", "norm2"))


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_spearmans(seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 9, (28, 28)).astype(np.float32)
    second = first + generator.integers(0, 9, (28, 28))
    assert rank_correlation(first, second) == pytest.approx(scipy.stats.spearmanr(first.ravel(), second.ravel())[0])
    assert rank_correlation(first, np.exp(first)) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)


@pytest.mark.parametrize("flat", [0, 3, np.nan, np.inf])
def test_flat_map_has_no_rank(flat):
    other = np.arange(49.0).reshape(7, 7)
    assert rank_correlation(np.full((7, 7), flat), other) is None
    assert rank_correlation(other, np.full((5, 5), flat)) is None


def test_check_says_how_like_the_maps_are(bundle, prepared):
    targets = {"cnn": "PNEUMONIA", "cnn_rnn": "NORMAL"}
    trained = {name: Explainer(bundle).explain(name, prepared, target) for name, target in targets.items()}
    checks = SanityChecker(bundle).check(prepared, trained)
    assert [check.network for check in checks] == ["cnn", "cnn_rnn"]
    random = Explainer(untrained(bundle))
    for check, target in zip(checks, targets.values(), strict=True):
        expected = random.explain(check.network, prepared, target)
        assert check.heatmap.target == target
        np.testing.assert_array_equal(check.heatmap.values, expected.values)
        assert check.correlation == rank_correlation(trained[check.network].values, expected.values)
        if check.heatmap.status is HeatStatus.DRAWN:
            assert check.heatmap.peak == pytest.approx(1)
        if check.correlation is not None:
            assert f"{check.correlation:.2f}" in check.words


def test_class_is_the_one_decided_at_the_operating_point(bundle, prepared, images):
    radiograph = read_radiograph(images / "test" / "PNEUMONIA" / "person100_bacteria_482.jpeg")
    for threshold, target in ((0.999, "NORMAL"), (0.001, "PNEUMONIA")):
        checks = Examiner(bundle, None).sanity(radiograph, threshold)
        assert [check.heatmap.target for check in checks] == [target] * 3


def test_words_of_an_empty_map(bundle, prepared):
    heatmap = Explainer(bundle).explain("cnn", prepared, "PNEUMONIA")
    assert "nothing to compare" in SanityCheck("cnn", heatmap, None).words
