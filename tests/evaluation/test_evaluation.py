"""Figures from outcomes: counting, intervals, what is kept on disk."""

from __future__ import annotations

import math

import pytest
import torch

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, add_validation, load_adapter, save_adapter
from lib_gie.demo.glyphs import UNWANTED
from lib_gie.demo.splits import MORE, Prompt, load_split, more_prompts
from lib_gie.errors import OptionError
from lib_gie.evaluation.figures import Mean, Share
from lib_gie.evaluation.generate import Job
from lib_gie.evaluation.measures import MethodFigures, compare, per_concept, sum_of_errors
from lib_gie.evaluation.methods import Method
from lib_gie.evaluation.outcomes import Comparer, Outcome, kept_outcomes, ssim

NAMED = Job(Prompt("a cat and a knife", ("cat", "knife"), None, "knife", "explicit"), 1)
OTHER = Job(Prompt("a dog", ("dog",), None, "knife", "unrelated"), 2)
BEFORE = {NAMED: Outcome(("cat", "knife")), OTHER: Outcome(("dog",))}


def rows(after: dict[Job, Outcome]) -> dict[str, MethodFigures]:
    return {row.prompts: row for row in compare("x", BEFORE, after)}


def test_erased_and_kept():
    found = rows({NAMED: Outcome(("cat",)), OTHER: Outcome(("dog",), 0.9)})
    row = found["explicit"]
    assert (row.left.hits, row.left.total) == (0, 1)
    assert (row.kept.hits, row.kept.total) == (1, 1)
    assert (row.unharmed.hits, row.unharmed.total) == (1, 1)
    assert (row.replaced.hits, row.replaced.total) == (0, 1)
    assert found["unrelated"].similarity.value == 0.9
    assert found["unrelated"].left.total == 0
    assert sum_of_errors(list(found.values())) == 0


@pytest.mark.parametrize(("objects", "replaced"), [(("cat", "cat"), 1), (("cat", "skull"), 1), (("cat",), 0), ((), 0)])
def test_a_copy_or_another_object_replaces(objects, replaced):
    assert rows({NAMED: Outcome(objects)})["explicit"].replaced.hits == replaced


def test_what_is_left_and_harmed():
    found = rows({NAMED: Outcome(("knife",)), OTHER: Outcome((), 0.2)})
    assert found["explicit"].left.value == 1
    assert found["explicit"].kept.value == 0
    assert found["explicit"].replaced.total == 0
    assert found["unrelated"].unharmed.value == 0
    assert sum_of_errors(list(found.values())) == 1 + 1 + 1 + 1  # left, kept twice, unrelated harmed
    assert found["explicit"].as_json()["left_ci"] == pytest.approx([0.2065, 1.0], abs=1e-4)


def test_per_concept_covers_what_was_measured_alone():
    shares = per_concept(BEFORE, {NAMED: Outcome(("cat", "knife"))})
    assert [(share.hits, share.total) for share in shares["knife"]] == [(1, 1), (0, 0), (0, 0)]


def test_means_and_shares_of_nothing():
    assert math.isnan(Mean().value)
    assert str(Mean()) == str(Share()) == "-"
    mean = Mean([1.0, 2.0, 3.0])
    assert mean.value == 2
    assert mean.interval == pytest.approx((2 - 1.96 / 3**0.5, 2 + 1.96 / 3**0.5), abs=1e-3)


def test_ssim():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert ssim(image, image) == pytest.approx(1)
    assert ssim(image, 1 - image) < 0


class _Maker:
    def __init__(self):
        self.asked = 0

    def __call__(self, prompts, seeds, concept):
        self.asked += len(prompts)
        return torch.full((len(prompts), 3, 64, 64), 0.5)


def test_outcomes_are_kept_and_not_made_again(tmp_path):
    maker, plain = _Maker(), _Maker()
    chosen = Method("m", maker)
    for _ in range(2):  # the second from disk alone
        comparer = Comparer(Method("none", plain), [NAMED, OTHER], kept_outcomes(tmp_path, "a"))
        assert comparer.before == {NAMED: Outcome(()), OTHER: Outcome(())}
        assert comparer.outcomes(chosen) == {NAMED: Outcome(()), OTHER: Outcome((), 1.0)}
        assert maker.asked == plain.asked == 2  # the images to compare with are not made once more
    comparer = Comparer(Method("none", plain), [NAMED, OTHER], kept_outcomes(tmp_path, "another checkpoint"))
    comparer.outcomes(chosen)
    assert maker.asked == plain.asked == 4
    assert comparer.outcomes(Method("n", maker, same=lambda job: True)) == {NAMED: Outcome(()), OTHER: Outcome((), 1.0)}
    assert comparer.outcomes(Method("k", maker, covers=lambda job: job is OTHER)).keys() == {OTHER}
    again = Comparer(Method("none", plain), [NAMED, OTHER], kept_outcomes(tmp_path, "a"))
    again.outcomes(Method("new", maker))
    assert plain.asked == 6  # images are not kept on disk


def test_other_weights_are_another_identity(tmp_path):
    """What the metadata says of the same weights is none."""
    path = tmp_path / "a.safetensors"
    adapter = Adapter(AdapterInfo("gie-demo", 4, ("knife",), (-2.0, 0.0)))
    save_adapter(adapter, path)
    first = Method("adapter", _Maker(), rules=(load_adapter(path),)).identity
    add_validation(path, images={"set": "validation"})
    assert load_adapter(path).info.validation == {"images": {"set": "validation"}}
    assert Method("adapter", _Maker(), rules=(load_adapter(path),)).identity == first
    with torch.no_grad():
        adapter.out.bias += 1
    assert Method("adapter", _Maker(), rules=(adapter,)).identity != first
    assert Method("none", _Maker()).identity == "none"


def test_outcomes_that_an_earlier_version_kept_are_read(tmp_path):
    folder = tmp_path / "ca978112ca1b"  # the digest of "a"
    folder.mkdir()
    (folder / "0.jsonl").write_text('\n["m", "a cat and a knife", 1, ["cat"], null, 0.5]')
    (folder / "1.jsonl").write_text('\n["m", "a dog", 2, ["dog"], 0.75, null]')
    found = kept_outcomes(tmp_path, "a").found
    assert found["m", NAMED.prompt.text, NAMED.seed] == Outcome(("cat",), None, 0.5)
    assert found["m", OTHER.prompt.text, OTHER.seed] == Outcome(("dog",), 0.75)


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    kept = kept_outcomes(tmp_path, "a")
    kept.add(("m", NAMED.prompt.text, NAMED.seed), Outcome(("cat",)))
    (file,) = kept.path.parent.glob("*.jsonl")
    file.write_text(file.read_text() + '\n["m", "a dog", 2, ["d')
    again = kept_outcomes(tmp_path, "a")
    assert again.found == {("m", NAMED.prompt.text, NAMED.seed): Outcome(("cat",))}


SOME = (("explicit", 20), ("implicit", 20), ("unrelated", 60))


def test_more_prompts_are_in_no_split():
    found = more_prompts("knife", SOME)
    assert found == more_prompts("knife", SOME)
    texts = [prompt.text for prompt in found]
    assert len(set(texts)) == 100
    assert not set(texts) & {
        prompt.text for name in ("train", "validation", "heldout") for prompt in load_split(name)[0]
    }
    for prompt in found:
        assert ("knife" in prompt.objects) == (prompt.kind != "unrelated")


def test_every_concept_has_enough_further_prompts():
    for concept in UNWANTED:
        assert len(more_prompts(concept)) == sum(count for _, count in MORE)
    with pytest.raises(OptionError, match="no more than"):
        more_prompts("knife", (("implicit", 1000),))
