"""The demo model's fixed scale: which of those that were tried is taken."""

from __future__ import annotations

import json

import pytest

from lib_gie.assets import DEMO
from lib_gie.demo import fixed_scale
from lib_gie.demo.fixed_scale import MOST_LEFT, load_fixed_scale, save_fixed_scale


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A place for the file, so that the shipped one stays as it is."""
    path = tmp_path / "fixed_scale.json"
    monkeypatch.setattr(fixed_scale, "DEMO_FIXED_SCALE", path)
    return path


def tried(scale: float, named: float, implied: float, errors: float) -> dict:
    left = {"named": named, "implied": implied, "unrelated": None}
    rows = [{"prompts": kind, "left": share} for kind, share in left.items()]
    return {"scale": scale, "sum_of_errors": errors, "rows": rows}


@pytest.mark.parametrize("kind", ["named", "implied"])
def test_one_that_leaves_too_much_is_not_taken_for_what_it_spares(recorded, kind):
    weak = tried(-0.75, **{"named": 0.0, "implied": 0.0, kind: MOST_LEFT + 0.01}, errors=0.3)
    assert save_fixed_scale([weak, tried(-1.0, 0.01, 0.0, 0.4), tried(-1.5, 0.0, 0.0, 0.9)]) == -1.0
    assert load_fixed_scale() == -1.0


def test_where_all_leave_too_much_it_is_the_one_that_leaves_least(recorded):
    assert save_fixed_scale([tried(-0.5, 0.5, 0.1, 0.7), tried(-1.0, 0.2, 0.2, 0.9)]) == -1.0


def test_what_was_not_measured_counts_as_left(recorded):
    unknown = tried(-0.5, 0.0, 0.0, 0.1)
    unknown["rows"][1]["left"] = None
    assert save_fixed_scale([unknown, {**unknown, "rows": []}, tried(-1.0, 0.2, 0.2, 0.9)]) == -1.0


def test_the_shipped_one_was_chosen_so(recorded):
    shipped = json.loads((DEMO / "fixed_scale.json").read_text(encoding="utf-8"))
    assert save_fixed_scale(shipped["tried"]) == shipped["scale"]
