"""Figures from outcomes: counting, intervals, what is kept on disk."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, add_validation, load_adapter, save_adapter
from lib_gie.demo.world import detector
from lib_gie.demo.world.scenes import draw
from lib_gie.demo.world.splits import KINDS, Prompt, load_split
from lib_gie.evaluation.figures import Mean, Share
from lib_gie.evaluation.generate import Job
from lib_gie.evaluation.measures import MAIN, MethodFigures, compare, jobs_of, per_concept, sum_of_errors
from lib_gie.evaluation.methods import Method
from lib_gie.evaluation.outcomes import Comparer, Outcome, kept_outcomes, look, ssim, ssim_outside


def job(text: str, objects: tuple[str, ...], kind: str, concept: str = "knife", style: str = "plain") -> Job:
    return Job(Prompt(text, objects, None, style, concept, kind), 1)


def seen(*objects: str, style: str = "plain", similarity: float | None = None) -> Outcome:
    return Outcome(objects, (style,), style, similarity)


NAMED = job("a cat and a knife", ("cat", "knife"), "named")
OTHER = job("a dog", ("dog",), "unrelated")
BEFORE = {NAMED: seen("cat", "knife"), OTHER: seen("dog")}


def rows(after: dict[Job, Outcome]) -> dict[str, MethodFigures]:
    return {row.prompts: row for row in compare("x", BEFORE, after)}


def test_erased_and_kept():
    found = rows({NAMED: seen("cat"), OTHER: seen("dog", similarity=0.9)})
    row = found["named"]
    assert (row.left.hits, row.left.total) == (0, 1)
    assert (row.kept.hits, row.kept.total) == (1, 1)
    assert (row.unharmed.hits, row.unharmed.total) == (1, 1)
    assert (row.replaced.hits, row.replaced.total) == (0, 1)
    assert found["unrelated"].similarity.value == 0.9
    assert found["unrelated"].left.total == 0
    assert sum_of_errors(list(found.values())) == 0


@pytest.mark.parametrize(("objects", "replaced"), [(("cat", "cat"), 1), (("cat", "skull"), 1), (("cat",), 0), ((), 0)])
def test_a_copy_or_another_object_replaces(objects, replaced):
    assert rows({NAMED: seen(*objects)})["named"].replaced.hits == replaced


def test_what_is_left_and_harmed():
    found = rows({NAMED: seen("knife"), OTHER: seen(similarity=0.2)})
    assert found["named"].left.value == 1
    assert found["named"].kept.value == 0
    assert found["named"].replaced.total == 0
    assert found["unrelated"].unharmed.value == 0
    assert sum_of_errors(list(found.values())) == 1 + 1 + 1 + 1  # left, kept twice, unrelated harmed
    assert found["named"].as_json()["left_ci"] == pytest.approx([0.2065, 1.0], abs=1e-4)


def test_per_concept_covers_what_was_measured_alone():
    shares = per_concept(BEFORE, {NAMED: seen("cat", "knife")})
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


# -- kinds of prompt ------------------------------------------------


def counted(of: Job, before: Outcome, after: Outcome) -> MethodFigures:
    (row,) = compare("x", {of: before}, {of: after})
    assert row.prompts == of.prompt.kind
    return row


def shares(row: MethodFigures, *names: str) -> list[tuple[int, int]]:
    return [(getattr(row, name).hits, getattr(row, name).total) for name in names]


def test_each_of_several_concepts_counts():
    several = job("a knife, wine and a cat", ("knife", "wine", "cat"), "several", "knife, wine")
    row = counted(several, seen("cat", "knife", "wine"), seen("cat", "wine"))
    assert shares(row, "left", "kept", "unharmed", "replaced") == [(1, 2), (1, 1), (1, 1), (0, 0)]
    row = counted(several, seen("cat", "knife", "wine"), seen("cat", "cat"))
    assert shares(row, "left", "kept", "unharmed", "replaced") == [(0, 2), (1, 1), (1, 1), (1, 1)]


def test_of_a_neighbours_prompt_the_neighbour_is_kept():
    near = job("a fork and a cat", ("fork", "cat"), "neighbour")
    assert shares(counted(near, seen("cat", "fork"), seen("fork")), "kept", "unharmed") == [(1, 1), (0, 1)]
    assert shares(counted(near, seen("cat", "fork"), seen("cat")), "kept", "unharmed") == [(0, 1), (0, 1)]
    assert shares(counted(near, seen("cat"), seen("cat")), "kept", "unharmed") == [(0, 0), (1, 1)]


def test_an_erased_style_may_change_the_background():
    pencil = job("a cat, pencil sketch", ("cat",), "style named", "pencil sketch", "pencil")
    row = counted(pencil, seen("cat", style="pencil"), seen("cat", "cat"))
    assert shares(row, "left", "kept", "unharmed", "style_kept") == [(0, 1), (1, 1), (1, 1), (0, 0)]
    assert row.replaced.total == row.outside.total == 0  # a style has no place
    row = counted(pencil, seen("cat", style="pencil"), seen("cat", style="pencil"))
    assert shares(row, "left", "unharmed") == [(1, 1), (1, 1)]
    row = counted(pencil, seen("cat"), seen("cat", style="neon"))  # there was nothing to erase
    assert shares(row, "left", "unharmed") == [(0, 0), (0, 1)]


@pytest.mark.parametrize(("kind", "concept"), [("styled", "knife"), ("style unrelated", "neon sign")])
def test_a_style_that_is_not_erased_is_to_stay(kind, concept):
    sketch = job("a cat and a knife, pencil sketch", ("cat", "knife"), kind, concept, "pencil")
    before = seen("cat", style="pencil")
    assert shares(counted(sketch, before, before), "style_kept", "unharmed") == [(1, 1), (1, 1)]
    assert shares(counted(sketch, before, seen("cat")), "style_kept", "unharmed") == [(0, 1), (0, 1)]
    assert shares(counted(sketch, seen("cat"), seen("cat")), "style_kept", "unharmed") == [(0, 0), (1, 1)]


def test_the_sum_of_errors_is_of_the_main_kinds():
    synonym = job("a dagger", ("knife",), "synonym")
    before, after = {**BEFORE, synonym: seen("knife")}, {**BEFORE, synonym: seen("knife")}
    found = compare("x", before, after)
    assert [row.prompts for row in found] == ["named", "synonym", "unrelated"]
    assert sum_of_errors(found) == 1
    assert per_concept(before, after).keys() == {"knife"}
    assert sum(share.total for share in per_concept(before, after)["knife"]) == 2


def test_jobs_are_of_the_kinds_that_are_asked_for():
    prompts, seeds = load_split("validation")
    assert {found.prompt.kind for found in jobs_of("validation", 1)} == {*MAIN}
    every = jobs_of("validation", 2, KINDS)
    assert [found.prompt for found in every[::2]] == [prompt for prompt in prompts if prompt.kind in KINDS]
    assert {found.seed for found in every} == {*seeds[:2]}


# -- what is seen ------------------------------------------------


def drawn(*objects: str, style: str = "plain") -> torch.Tensor:
    corners = ((0, 0), (32, 32))
    return torch.from_numpy(draw(objects, "blue", style, corners[: len(objects)])).permute(2, 0, 1)


def test_an_outcome_tells_objects_styles_and_background():
    found = look(drawn("knife", "cat", style="neon"))
    assert found == Outcome(("cat", "knife"), ("neon",), "neon")
    assert found.shown == {"cat", "knife", "neon sign"}
    assert look(drawn("dog", "dog")) == Outcome(("dog", "dog"), ("plain",), "plain")
    assert look(drawn()).shown == frozenset()


def test_ssim_outside_leaves_the_erased_things_out():
    before, after, other = drawn("knife", "cat"), drawn("fork", "cat"), drawn("knife", "dog")
    boxes = {find.name: find for find in detector.look(before).finds}
    assert ssim_outside(before, after, [boxes["knife"]]) == pytest.approx(1, abs=1e-3)
    assert ssim_outside(before, other, [boxes["knife"]]) < 0.95
    assert ssim_outside(before, other, [*boxes.values()]) > ssim_outside(before, other, [boxes["knife"]])
    assert ssim_outside(before, after, []) is None


# -- what is made, and what is kept of it ------------------------------------------------

EMPTY = look(torch.full((3, 64, 64), 0.5))
assert EMPTY.objects == ()


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
        assert comparer.before == {NAMED: EMPTY, OTHER: EMPTY}
        assert comparer.outcomes(chosen) == {NAMED: EMPTY, OTHER: replace(EMPTY, similarity=1.0)}
        assert maker.asked == plain.asked == 2  # the images to compare with are not made once more
    comparer = Comparer(Method("none", plain), [NAMED, OTHER], kept_outcomes(tmp_path, "another checkpoint"))
    comparer.outcomes(chosen)
    assert maker.asked == plain.asked == 4
    assert comparer.outcomes(Method("n", maker, same=lambda job: True)) == {
        NAMED: EMPTY,
        OTHER: replace(EMPTY, similarity=1.0),
    }
    assert comparer.outcomes(Method("k", maker, covers=lambda job: job is OTHER)).keys() == {OTHER}
    again = Comparer(Method("none", plain), [NAMED, OTHER], kept_outcomes(tmp_path, "a"))
    again.outcomes(Method("new", maker))
    assert plain.asked == 6  # images are not kept on disk


def test_the_detector_looks_at_an_image_without_erasure_once_for_all_methods(monkeypatch):
    looked = []
    real = detector.look

    def count(image):
        looked.append(image)
        return real(image)

    comparer = Comparer(Method("none", _Maker()), [NAMED])
    monkeypatch.setattr(detector, "look", count)
    for name in ("a", "b", "c"):
        comparer.outcomes(Method(name, _Maker()))
    assert len(looked) == 3 + 1  # each method's image, and the one without erasure


def test_images_without_erasure_are_the_same_for_every_concept(tmp_path):
    """Outcomes of an erasure are not: they are kept by concept as well."""
    wine = Job(replace(NAMED.prompt, concept="wine"), NAMED.seed)
    plain, maker = _Maker(), _Maker()
    for jobs in ([NAMED], [wine]):
        Comparer(Method("none", plain), jobs, kept_outcomes(tmp_path, "a"))
    assert plain.asked == 1
    for jobs in ([NAMED], [wine]):
        Comparer(Method("none", plain), jobs, kept_outcomes(tmp_path, "a")).outcomes(Method("m", maker))
    assert maker.asked == 2


def test_other_weights_are_another_identity(tmp_path):
    """What the metadata says of the same weights is none."""
    path = tmp_path / "a.safetensors"
    adapter = Adapter(AdapterInfo("gie-demo", 4, ("knife",), (-2.0, 0.0)))
    save_adapter(adapter, path)

    def identity() -> str:
        loaded = load_adapter(path)
        return Method("adapter", _Maker(), rules=lambda job: (loaded,)).identity(NAMED)

    first = identity()
    add_validation(path, images={"set": "validation"})
    assert load_adapter(path).info.validation == {"images": {"set": "validation"}}
    assert identity() == first
    with torch.no_grad():
        adapter.out.bias += 1
    assert Method("adapter", _Maker(), rules=lambda job: (adapter,)).identity(NAMED) != first
    assert Method("none", _Maker()).identity(NAMED) == "none"


def test_what_another_version_of_the_detector_saw_is_not_taken(tmp_path, monkeypatch):
    key = ("m", "knife", NAMED.prompt.text, NAMED.seed)
    outcome = Outcome(("cat",), ("neon", "plain"), "plain", None, 0.5)
    kept_outcomes(tmp_path, "a").add(key, outcome)
    assert kept_outcomes(tmp_path, "a").found == {key: outcome}
    monkeypatch.setattr(detector, "VERSION", detector.VERSION + 1)
    assert kept_outcomes(tmp_path, "a").found == {}


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    kept = kept_outcomes(tmp_path, "a")
    kept.add(("m", "knife", NAMED.prompt.text, NAMED.seed), seen("cat"))
    (file,) = kept.path.parent.glob("*.jsonl")
    file.write_text(file.read_text() + '\n["m", "knife", "a dog", 2, ["d')
    again = kept_outcomes(tmp_path, "a")
    assert again.found == {("m", "knife", NAMED.prompt.text, NAMED.seed): seen("cat")}


def test_what_unrelated_images_show_by_chance_is_not_left_over():
    unrelated = job("a dog", ("dog",), "unrelated")
    before = {unrelated: seen("dog", "knife")}
    (row,) = compare("x", before, before)
    assert (row.left.hits, row.left.total) == (1, 1)
    assert sum_of_errors([row]) == 0
