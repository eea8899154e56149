"""What ``erase`` advises where a concept still shows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lib_gie.cli.next_steps import next_steps, shows
from lib_gie.demo.words import thing_named

STILL = "knife still shows: "
SPOILT = ", or another seed if the rest is spoilt"


def asked(strength: float = 1.0, start: float = 0.0, end: float = 1.0, keep_composition: bool = False, adapter=None):
    return SimpleNamespace(
        strength=strength, start=start, end=end, keep_composition=keep_composition, adapter=adapter
    )  # fmt: skip


def report(shown: list[bool], scales: list[float], weight: float = 1.0) -> dict:
    concepts = [{"text": "knife", "weight": weight, "scales": [[scale, 0.0] for scale in scales]}]
    images = [{"objects_after": ["knife"] if is_left else ["cat"], "styles_after": []} for is_left in shown]
    return {"concepts": concepts, "images": images}


@pytest.mark.parametrize(
    ("strength", "greater"), [(0.01, "0.51"), (0.5, "1"), (1.0, "1.5"), (1.5, "2.25"), (2.5, "3"), (2.99, "3")]
)
def test_a_greater_strength_comes_first(strength, greater):
    found = next_steps(report([True, False], [-1.0, -1.0]), asked(strength))
    assert found == [f"{STILL}try --strength {greater}{SPOILT if strength > 1 else ''}"]


@pytest.mark.parametrize(
    ("shown", "scales", "weight", "strength", "said"),
    [
        ([False], [-1.0], 1.0, 1.0, []),
        ([False], [0.0], 0.0, 1.0, []),
        ([True], [-0.0], 0.0, 1.0, ["its weight or --strength is 0, which erases nothing"]),
        ([True], [-0.0], 1.0, 0.0, ["its weight or --strength is 0, which erases nothing"]),
        ([True, False], [0.0, -1.0], 1.0, 1.0, ["in 1 of the images its scale was 0; try --scale -1 and no --adapter"]),
        ([True], [-3.0], 1.0, 3.0, [f"no greater --strength is possible; try --scale -4.5 in place of --strength"
                                     f"{SPOILT}"]),
        ([True], [-6.0], 2.0, 3.0, [f"no greater --strength is possible; try --scale -4.5 in place of --strength"
                                     f"{SPOILT}"]),
        ([True], [-0.03], 1.0, 3.0, [f"no greater --strength is possible; try --scale -0.53 in place of --strength"
                                      f"{SPOILT}"]),
        ([True], [-60.0], 1.0, 3.0, ["neither a greater --strength nor a stronger --scale is possible; try another "
                                     "seed"]),
        ([True, True], [0.0, -1.0], 1.0, 1.0, ["in 1 of the images its scale was 0; try --scale -1 and no --adapter",
                                               "try --strength 1.5"]),
    ],
)  # fmt: skip
def test_what_cannot_help_is_not_advised(shown, scales, weight, strength, said):
    assert next_steps(report(shown, scales, weight), asked(strength)) == [STILL + advice for advice in said]


def test_a_style_shows_as_well():
    found = report([False], [-1.0])
    found["images"][0]["styles_after"] = ["knife"]
    assert next_steps(found, asked()) == [f"{STILL}try --strength 1.5"]


@pytest.mark.parametrize(
    ("narrowing", "named"),
    [
        ({"start": 0.95}, "without --start"),
        ({"end": 0.1, "strength": 1.5}, "without --end"),
        ({"start": 0.2, "end": 0.8, "keep_composition": True}, "without --start and --end and --keep-composition"),
        ({"keep_composition": True, "strength": 3.0}, "without --keep-composition"),
        ({"keep_composition": True, "strength": 0.01}, "without --keep-composition and with --strength 1"),
        ({"weight": 0.001, "strength": 3.0}, "with a weight of 1"),
        ({"weight": 0.5, "strength": 0.5, "end": 0.5}, "without --end and with a weight of 1 and --strength 1"),
    ],
)
def test_what_erases_less_is_left_out_first(narrowing, named):
    weight = narrowing.get("weight", 1.0)
    asking = asked(**{name: value for name, value in narrowing.items() if name != "weight"})
    assert next_steps(report([True], [-1.0], weight), asking) == [f"{STILL}try it {named}, so that more is erased"]


NAMED = {
    "knife": "knife", "Knife": "knife", "a knife": "knife", "the KNIFE": "knife", "dagger": "knife",
    "a blade": "knife", "something to cut bread with": "knife", "bare bones": "skull", "Fork": "fork",
    "Pencil Sketch": "pencil sketch", "red": None, "a": None, "an evening": None, "[": None, "": None, "knives": None,
}  # fmt: skip


@pytest.mark.parametrize("text", NAMED)
def test_what_a_text_names_to_the_detector(text):
    assert thing_named(text) == NAMED[text]


@pytest.mark.parametrize("text", [text for text, name in NAMED.items() if name == "knife"])
def test_a_concept_shows_by_whatever_it_is_called(text):
    found = report([True, False], [-1.0, -1.0])
    found["concepts"][0]["text"] = text
    assert [shows(text, image, "after") for image in found["images"]] == [True, False]
    assert next_steps(found, asked()) == [f"{text} still shows: try --strength 1.5"]


def test_nobody_says_that_what_the_detector_has_no_name_for_is_gone():
    found = report([True], [-1.0])
    found["concepts"][0]["text"] = "red"
    assert next_steps(found, asked()) == ["red: the detector has no name for it; look whether the pictures show it"]


def test_an_adapter_gives_way_to_a_scale():
    (found,) = next_steps(report([True], [-3.0]), asked(3.0, adapter="mine"))
    assert "try --scale -4.5 in place of --strength and --adapter, or" in found


def test_what_the_detector_mistakes_is_said():
    found = report([True], [-1.0])
    found["concepts"][0]["text"] = "watercolour"
    found["images"][0]["styles_after"] = ["watercolour"]
    assert next_steps(found, asked())[-1].startswith("watercolour: the detector takes many a blurred picture for it")
