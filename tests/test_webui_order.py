"""What the training tab is asked for: checked before anything is made."""

from __future__ import annotations

import dataclasses

import pytest

from lib_gie.errors import ConceptError, OptionError
from lib_gie.training.judges.self_judge import EVALUATIONS
from lib_gie.training.search import GRID, most_tries
from lib_gie.webui.order import Order, amount

PROMPTS = "a {concept}\na {concept} and a cat\n[implicit]\na robbery\n[unrelated]\na dog\na cat\na fish"
ORDER = Order("knife", "", PROMPTS, "detector", 100, 2, len(GRID) - 1, "Euler", 20, 4.0, 64, 64, 8)


def order(**changes) -> Order:
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


def test_the_amount_is_an_upper_bound():
    work = amount(ORDER)
    assert (work.prompts, work.images) == (6, 6 * most_tries(len(GRID)))
    assert work.evaluations == work.images * 2 * 20 + 6
    assert amount(order(judge="self")).evaluations - work.evaluations == work.images * EVALUATIONS
    assert amount(order(judge="hand", grid=3)).images == 6 * 4
    assert work.seconds(0.5) == work.images / 2
