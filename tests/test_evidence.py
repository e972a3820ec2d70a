"""Heat against lungs: shares, chance, zones, and the words for them."""

import cv2
import numpy as np
import pytest

from pneumo.evidence import Evidence, disagreement, evidence_of, zone_words
from pneumo.framing import RASTER, WHOLE, Box
from pneumo.lungs import ZONES, Lungs, lungs_of
from pneumo.saliency import Heatmap


@pytest.fixture(scope="module", params=["NORMAL/IM-0005-0001", "PNEUMONIA/person100_bacteria_482"])
def lungs(masks, request) -> Lungs:
    return lungs_of(cv2.imread(str(masks / "test" / f"{request.param}.png"), cv2.IMREAD_GRAYSCALE) >= 128)


def heat(values: np.ndarray, box: Box = WHOLE) -> Heatmap:
    return Heatmap("hirescam", "PNEUMONIA", np.asarray(values, np.float32), box, 4.0)


def found(zone: str, share: float = 0.9, chance: float = 0.3) -> Evidence:
    return Evidence(share, chance, {name: share * (name == zone) for name in ZONES}, (0.5, 0.5), zone)


def test_even_heat_is_at_chance(lungs):
    even = np.ones((7, 7))
    assert evidence_of(heat(even), lungs) is None, "the same everywhere, it points nowhere"
    even[0, 0] += 1e-5
    evidence = evidence_of(heat(even), lungs)
    assert evidence.share_in_lungs == pytest.approx(lungs.share, rel=1e-3)
    assert evidence.chance == lungs.share
    for name, zone in lungs.zones().items():
        assert evidence.zones[name] == pytest.approx(zone.mean(), rel=1e-3)


@pytest.mark.parametrize("zone", ZONES)
def test_heat_in_one_zone(lungs, zone):
    place = lungs.zones()[zone]
    evidence = evidence_of(heat(place.astype(np.float32)), lungs)
    assert evidence.share_in_lungs == pytest.approx(1)
    assert evidence.main_zone == evidence.peak_zone == zone
    assert evidence.zones == pytest.approx({name: float(name == zone) for name in ZONES})
    x, y = evidence.peak
    assert place[int(y * RASTER), int(x * RASTER)]
    words = f"100 % of the evidence lies in the lungs (chance {lungs.share * 100:.0f} %), most of it in the "
    assert evidence.words == f"{words}{zone.replace('_', ' ')} zone."


def test_right_is_the_patients_right(lungs):
    left_half = np.zeros((RASTER, RASTER), np.float32)
    left_half[:, : RASTER // 3] = 1
    assert evidence_of(heat(left_half), lungs).main_zone.startswith("right_")


def test_heat_outside_the_lungs(lungs):
    evidence = evidence_of(heat(~lungs.mask), lungs)
    assert evidence.share_in_lungs == 0
    assert evidence.peak_zone == evidence.main_zone == ""
    assert evidence.words == f"None of the evidence lies in the lungs (chance {lungs.share * 100:.0f} %)."
    assert not evidence.above_chance
    assert disagreement({"CNN": evidence, "CNN-LSTM": found("left_lower")}) == ""


def test_zones_add_up_to_the_share_in_the_lungs(lungs):
    values = np.random.default_rng(0).random((7, 7))
    evidence = evidence_of(heat(values, lungs.box.grown(0.08)), lungs)
    assert sum(evidence.zones.values()) == pytest.approx(evidence.share_in_lungs)
    assert 0 < evidence.share_in_lungs < 1
    # Chance is that of what the network was shown, the lungs' box with a margin, not of the radiograph.
    assert evidence.chance > lungs.share
    assert evidence.share_in_lungs == pytest.approx(evidence.chance, abs=0.1)


def test_most_is_more_than_half(lungs):
    zones = lungs.zones()
    uneven = zones["left_lower"] * 3.0 + sum(zone * 1.0 for zone in zones.values())
    assert "the largest part of it in the left lower zone." in evidence_of(heat(uneven), lungs).words


def test_scale_of_the_heat_does_not_matter(lungs):
    values = np.random.default_rng(1).random((7, 7))
    first, second = (evidence_of(heat(values * factor), lungs) for factor in (1, 1000))
    assert first.zones == pytest.approx(second.zones, rel=1e-4)
    assert first.peak == second.peak


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), -1)])
def test_nothing_to_measure(lungs, values):
    assert evidence_of(heat(values), lungs) is None


def test_no_lungs_to_measure_by():
    nothing = np.zeros((RASTER, RASTER), bool)
    assert evidence_of(heat(np.ones((3, 3))), None) is None
    assert evidence_of(heat(np.ones((3, 3))), Lungs(nothing, nothing, "No lung was found.")) is None


def test_zone_words():
    assert [zone_words(zone) for zone in ZONES][:2] == ["right upper zone", "right middle zone"]


def test_networks_that_point_at_different_zones():
    zones = {"CNN": found("left_lower"), "CNN-LSTM": found("right_upper"), "CNN-RNN": found("right_lower")}
    assert disagreement(zones) == (
        "The networks point at different zones: CNN at the left lower zone, CNN-LSTM at the right upper zone, "
        "CNN-RNN at the right lower zone."
    )
    assert disagreement({"CNN": found("left_lower")}) == ""
    assert disagreement({}) == ""
    in_one_lung = zones | {"CNN-LSTM": found("left_lower"), "CNN-RNN": found("left_upper")}
    assert disagreement(in_one_lung) == "", "two of them share their zone"
    assert disagreement({"CNN": found("left_lower"), "CNN-RNN": found("left_upper")}) == (
        "The networks point at different zones: CNN at the left lower zone, CNN-RNN at the left upper zone."
    )


def spread(**shares: float) -> Evidence:
    return Evidence(sum(shares.values()), 0.3, dict.fromkeys(ZONES, 0.0) | shares, (0.5, 0.5), "")


def test_main_lung_has_more_than_two_thirds_of_the_heat_in_the_lungs():
    assert spread(left_lower=0.2, left_upper=0.25, right_lower=0.2).main_lung == "left"
    assert spread(left_lower=0.2, left_upper=0.15, right_lower=0.25).main_lung == ""
    assert spread(right_middle=0.1).main_lung == "right"
    assert spread().main_lung == ""


def test_networks_that_point_at_different_lungs():
    """Two share their zone; the third has its heat in the other lung, or nearly as much of it in both."""
    zones = {"CNN": found("left_lower"), "CNN-LSTM": found("right_lower"), "CNN-RNN": found("left_lower")}
    assert disagreement(zones) == (
        "The networks point at different lungs: CNN at the left lower zone, CNN-LSTM at the right lower zone, "
        "CNN-RNN at the left lower zone."
    )
    assert disagreement(zones | {"CNN-LSTM": spread(right_lower=0.3, left_lower=0.25)}) == ""
