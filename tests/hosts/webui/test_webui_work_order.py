"""What the training tab is asked for: checked before anything is made."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import ConceptError, GieError, OptionError
from lib_gie.hosts.webui.training.work_order import (
    WorkOrder,
    amount,
    check_name,
    read_work_order,
)
from lib_gie.training.calibration import MOST_EVALUATIONS
from lib_gie.training.fitting import Recipe, is_validation
from lib_gie.training.judges.self_judge import SelfJudge
from lib_gie.training.search import GRID
from lib_gie.training.work import evaluations_of_image

PROMPTS = "a {concept}\na {concept} and a cat\n[implicit]\na robbery\n[unrelated]\na dog\na cat\na fish"
ORDER = WorkOrder("knife", "", PROMPTS, "detector", 100, 2, len(GRID) - 1, "Euler", 20, 4.0, 64, 64, 8)


_FITTED = [
    name for name in ("a cat", "a dog", "a fish", "a bird") if not is_validation(name, Recipe().share_validation)
]
TOO_FEW = f"{_FITTED[0]}\n[unrelated]\n{_FITTED[1]}"
"""Prompts of which none is kept for validation."""


def order(**changes) -> WorkOrder:
    return dataclasses.replace(ORDER, **changes)


def test_every_prompt_with_its_seeds_but_one_of_unrelated_ones():
    samples = [(sample.prompt, sample.seed, sample.kind) for sample in ORDER.samples()]
    assert samples[:4] == [("a knife", 0, "explicit"), ("a knife", 1, "explicit"), ("a knife and a cat", 0, "explicit"),
                           ("a knife and a cat", 1, "explicit")]  # fmt: skip
    assert [sample for sample in samples if sample[2] == "unrelated"] == [
        (f"a {name}", 0, "unrelated") for name in ("dog", "cat", "fish")
    ]
    assert len(order(count=1).samples()) == 2 + 2 + 1


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"prompts": "[unrelated]\na cat"}, OptionError, "all unrelated"),
        ({"prompts": "a knife"}, OptionError, "no prompt is unrelated"),
        ({"prompts": ""}, OptionError, "no prompts"),
        ({"prompts": TOO_FEW}, OptionError, "2 prompts are too few to keep some for validation"),
        ({"concept": "knife, wine"}, OptionError, "names 2 concepts"),
        ({"concept": " "}, ConceptError, "empty"),
    ],
)
def test_bad_orders(changes, error, says):
    with pytest.raises(error, match=says):
        order(**changes).samples()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "Automatic", "Fixed scale"])
def test_names_that_are_no_plain_file_names(name, tmp_path):
    with pytest.raises(OptionError, match="give a plain one"):
        order(name=name).path(tmp_path)


def test_without_a_name_the_concept_is_the_name(tmp_path):
    assert order(concept="Van Gogh style").path(tmp_path) == tmp_path / "van-gogh-style.safetensors"


def test_the_amount_has_a_usual_extent_and_a_bound():
    work = amount(ORDER)
    low, high, most = *work.usual, work.most
    assert (work.prompts, low.images, high.images) == (6, 6 * 2, 5 * 3 + 4)  # one prompt implies it
    assert most.images == 6 * 8  # at most 8 tries, the calibrated scale included
    implied = {sample.prompt for sample in ORDER.samples() if sample.kind == "implicit"}
    assert most.evaluations == most.images * 2 * 20 + 2 * 6 + MOST_EVALUATIONS + 2 * len(implied)
    judged = amount(order(judge="self"))
    unrelated = sum(sample.kind == "unrelated" for sample in ORDER.samples())
    assert [found.images for found in (*judged.usual, judged.most)] == [
        found.images + unrelated for found in (low, high, most)
    ]
    more = judged.most.images * (40 + SelfJudge.evaluations) - most.images * 40
    assert judged.most.evaluations - most.evaluations == more
    by_hand = amount(order(judge="hand", grid=3))
    assert {found.images for found in (*by_hand.usual, by_hand.most)} == {6 * 5}
    assert evaluations_of_image(20, SelfJudge) == 40 + SelfJudge.evaluations
    assert most.evaluations - low.evaluations == (most.images - low.images) * 40


# -- what the page sends, or somebody without it ------------------------------------------------

VALUES = ["knife", "", PROMPTS, "self", 100, 2, 5, "Euler", 20, 4.0, 64, 64, 8, False]
NAMES = [field.name for field in dataclasses.fields(WorkOrder)]


def read(**changes) -> WorkOrder:
    values = [changes.get(name, value) for name, value in zip(NAMES, VALUES, strict=True)]
    return read_work_order(values, ["Euler", "DPM++ 2M"])


def test_the_pages_values_are_read():
    assert read() == WorkOrder(*VALUES)
    assert read(count=100.0, cfg=7.25, replace=True).count == 100


HOSTILE = [
    None, True, "", "x", "../../etc/passwd", "1", -1, 0, 0.5, 10**9, 10**400, float("nan"), float("inf"),
    [], ["self"], {}, [[[]]], "x" * 10**6, b"x",
]  # fmt: skip
TEXTS = ("concept", "name", "prompts")


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20] if value != 10**400 else "huge")
@pytest.mark.parametrize("name", NAMES)
def test_values_of_other_kinds_and_ranges(name, value):
    if name in TEXTS and isinstance(value, str) and len(value) < 100:
        return  # texts, which are looked at when they are used
    if name == "replace" and value is True:
        return
    with pytest.raises(OptionError) as failure:
        read(**{name: value})
    assert len(str(failure.value)) < 500


def test_a_wrong_number_of_values():
    for values in ([], VALUES[:-1], [*VALUES, 1]):
        with pytest.raises(OptionError, match="values were given"):
            read_work_order(values, ["Euler"])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=1000, max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4))
def test_any_values_are_an_order_or_an_error(changes):
    with contextlib.suppress(GieError):
        found = read(**changes)
        amount(found)
        assert found.path(Path("folder")).parent == Path("folder")
        assert found.path(Path("folder")).name.endswith(".safetensors")


def wide(text: str) -> str:
    """In letters that are as wide as Chinese ones, which some take for the same."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


@pytest.mark.parametrize(
    "name",
    [
        "con", "CON", "nul.x", "COM1", "lpt9.tar", "aux", "x.", "x .", "automatic", "AUTOMATIC", "Automatic.",
        "fixed SCALE", wide("Automatic"), "a:b", "a|b", "a*b", "a?b", 'a"b', "<a>", "a;b", "a\nb", "a\0b", "a\u202eb",
        "a\x1bb", "\ud800",
        "-rf", "..", "x" * 81, "~/../x", "é" * 200,
    ],
)  # fmt: skip
def test_names_that_some_system_reads_otherwise(name, tmp_path):
    with pytest.raises(OptionError, match="give a plain one") as failure:
        order(name=name).path(tmp_path)
    assert len(str(failure.value)) < 300


def test_names_of_every_language_are_plain(tmp_path):
    assert order(name="e\u0301te\u0301").stem == "été"
    assert order(name=" my knife ").stem == "my knife"
    assert order(name="ナイフ").path(tmp_path).parent == tmp_path


@pytest.fixture
def folders(tmp_path):
    """A shipped adapter, one's own for knife, another's for wine, and a file that is none."""
    for folder, name, concepts in (
        ("shipped", "demo-knife", ["knife"]), ("own", "my-knife", ["Knife"]), ("own", "cellar", ["wine"]),
        ("own", "both", ["knife", "wine"]), ("own", "enforced", ["knife"]),
    ):  # fmt: skip
        save_adapter(
            Adapter(AdapterInfo("sd1", 16, tuple(concepts), (-5.0, 0.0))), tmp_path / folder / f"{name}.safetensors"
        )
    (tmp_path / "own" / "broken.safetensors").write_bytes(b"x")
    return [tmp_path / "shipped", tmp_path / "own"]


def test_a_name_that_is_free(folders):
    assert check_name(order(name="new"), folders, {"enforced"}) == folders[1] / "new.safetensors"


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("demo-knife", "lies in the extension's own folder"), ("DEMO-knife", "lies in the extension's own folder"),
        ("cellar", "another adapter"), ("Cellar", "another adapter"), ("both", "another adapter"),
        ("broken", "another adapter"), ("MY-KNIFE", "another adapter"), (wide("my-knife"), "another adapter"),
        ("enforced", "always erases with"), ("Enforced", "always erases with"), ("unmade", "always erases with"),
    ],
)  # fmt: skip
def test_anothers_place_is_not_taken(folders, name, says, replace):
    before = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    with pytest.raises(OptionError, match=says):
        check_name(order(name=name, replace=replace), folders, {"enforced", "unmade"})
    assert before == {path: path.read_bytes() for folder in folders for path in folder.iterdir()}


def test_ones_own_is_replaced_when_that_is_said(folders):
    with pytest.raises(OptionError, match="tick 'Replace'"):
        check_name(order(name="my-knife"), folders, set())
    assert check_name(order(name="my-knife", replace=True), folders, set()) == folders[1] / "my-knife.safetensors"
