"""What ``erase`` advises where a concept still shows."""

from __future__ import annotations

import pytest

from lib_gie.cli.next_steps import next_steps

STILL = "knife still shows: "


def report(shown: list[bool], scales: list[float], weight: float = 1.0) -> dict:
    concepts = [{"text": "knife", "weight": weight, "scales": [[scale, 0.0] for scale in scales]}]
    images = [{"objects_after": ["knife"] if is_left else ["cat"], "styles_after": []} for is_left in shown]
    return {"concepts": concepts, "images": images}


@pytest.mark.parametrize(
    ("strength", "greater"), [(0.01, "0.51"), (0.5, "1"), (1.0, "1.5"), (1.5, "2.25"), (2.5, "3"), (2.99, "3")]
)
def test_a_greater_strength_comes_first(strength, greater):
    assert next_steps(report([True, False], [-1.0, -1.0]), strength) == [f"{STILL}try --strength {greater}"]


@pytest.mark.parametrize(
    ("shown", "scales", "weight", "strength", "said"),
    [
        ([False], [-1.0], 1.0, 1.0, []),
        ([False], [0.0], 0.0, 1.0, []),
        ([True], [-0.0], 0.0, 1.0, ["its weight or --strength is 0, which erases nothing"]),
        ([True], [-0.0], 1.0, 0.0, ["its weight or --strength is 0, which erases nothing"]),
        ([True, False], [0.0, -1.0], 1.0, 1.0, ["in 1 of the images its scale was 0; try --scale -1 and no --adapter"]),
        ([True], [-1.0], 1.0, 3.0, ["no greater --strength is possible; try a stronger --scale than this, and no "
                                    "--adapter"]),
        ([True, True], [0.0, -1.0], 1.0, 1.0, ["in 1 of the images its scale was 0; try --scale -1 and no --adapter",
                                               "try --strength 1.5"]),
    ],
)  # fmt: skip
def test_what_cannot_help_is_not_advised(shown, scales, weight, strength, said):
    assert next_steps(report(shown, scales, weight), strength) == [STILL + advice for advice in said]


def test_a_style_shows_as_well():
    found = report([False], [-1.0])
    found["images"][0]["styles_after"] = ["knife"]
    assert next_steps(found, 1.0) == [f"{STILL}try --strength 1.5"]
