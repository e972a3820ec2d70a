"""Pictures that are no chest radiographs."""

from __future__ import annotations

from training.outsiders import FIT, HELD_OUT, MADE, UNSEEN, outsiders


def test_no_source_is_fitted_and_held_out():
    found = list(outsiders(variants=1, made=2))
    uses = {(item.kind, item.source): item.use for item in found}
    assert all(uses[item.kind, item.source] == item.use for item in found)
    assert {kind for (kind, _), use in uses.items() if use == FIT}.isdisjoint(UNSEEN)
    for kind in {kind for kind, _ in uses} - set(UNSEEN):
        assert {use for (own, _), use in uses.items() if own == kind} == {FIT, HELD_OUT}
    assert set(MADE) <= {item.kind for item in found}
    assert all(item.raster.shape == (224, 224) for item in found)
