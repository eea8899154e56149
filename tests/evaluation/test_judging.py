"""How a judge's agreement with the detector is measured."""

from __future__ import annotations

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.demo.world.concepts import CONCEPTS, STYLE_OF
from lib_gie.demo.world.detector import look
from lib_gie.demo.world.scenes import draw
from lib_gie.demo.world.splits import Prompt, load_split
from lib_gie.demo.world.styles import NAMED_STYLES, STYLES
from lib_gie.demo.world.things import UNWANTED
from lib_gie.evaluation import calibrations, judging
from lib_gie.evaluation.bench import labelling_speed
from lib_gie.evaluation.generate import Job
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.training import judges
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Verdict
from lib_gie.training.judges.self_judge import best_part


def seen(text: str, objects: tuple[str, ...], concept: str, kind: str, style: str = "plain") -> judging.Seen:
    """An image that shows what its prompt asks for."""
    image = torch.from_numpy(draw(objects, "blue", style, [(16, 16)] * len(objects))).permute(2, 0, 1)
    job = Job(Prompt(text, objects, None, style, concept, kind), 1)
    return judging.Seen(job, Made(image[None], torch.zeros(1, 4, 8, 8)), look(image).shown)


def test_auc():
    assert judging.auc_of([3, 2, 1, 0], [True, True, False, False]) == 1
    assert judging.auc_of([0, 1, 2, 3], [True, True, False, False]) == 0
    assert judging.auc_of([1, 1], [True, False]) == 0.5


def test_agreement(monkeypatch):
    class Judge(judges.Judge):
        name, calibrates = "by the text", True

        def __init__(self, concept):
            self.concept = concept

        def look(self, made, prompts):
            return [Verdict(2.0 if self.concept in prompt else float("robbery" in prompt)) for prompt in prompts]

        def calibrate(self, showing, absent):
            assert (set(showing), set(absent)) == ({2.0}, {0.0})
            self.threshold = 1.5

        def shows(self, verdict, before):
            return verdict.score > self.threshold

    monkeypatch.setattr(judging, "make_judge", lambda name, host, concept: Judge(concept))
    images = [seen(f"a {name}", (name,), name, "named") for name in UNWANTED]
    images += [
        seen(f"a {phrase} of a cat", ("cat",), phrase, "style named", style) for phrase, style in STYLE_OF.items()
    ]
    images += [seen("a robbery", ("knife",), "knife", "implied"), seen("a cat", ("cat",), "knife", "unrelated")]
    images += [seen("a cat, pencil sketch", ("cat",), "neon sign", "style unrelated", "pencil")]
    found = {entry.concept: entry for entry in judging.agreement(None, "by the text", images)}
    assert tuple(found) == CONCEPTS
    assert found["knife"].auc == 1
    assert (found["knife"].having.hits, found["knife"].having.total) == (1, 2)
    assert (found["knife"].lacking.hits, found["knife"].lacking.total) == (13, 13)
    assert (found["pencil sketch"].having.hits, found["pencil sketch"].having.total) == (2, 2)
    assert found["wine"].having.value == found["wine"].lacking.value == 1
    assert judging.median_auc(list(found.values())) == 1
    assert judging.as_plain(list(found.values()))["concepts"]["knife"]["right_where_it_shows"] == 0.5
    assert "median AUC: 1.000" in judging.as_text(list(found.values()))


def test_jobs_are_of_the_kinds_that_labelling_knows():
    prompts, seeds = load_split("validation")
    jobs = judging.jobs_to_judge("validation", 2)
    assert {job.seed for job in jobs} == set(seeds[:2])
    assert len(jobs) == len(set(jobs)) == 2 * sum(prompt.kind in judging.KINDS for prompt in prompts)
    for concept in CONCEPTS:  # each is judged on images with it and without it, and calibrated on both
        naming = [job for job in jobs if job.prompt.concept == concept and job.prompt.kind in judging.NAMED]
        assert len(naming) >= 20


def test_images_are_judged_as_the_detector_sees_them():
    """The detector judges itself, on images of a real pipeline."""
    maker = PipelineImageMaker(build_pipe(), "gie-demo", name="tiny", steps=1, cfg=1.0, size=(64, 64))
    jobs = [Job(load_split("validation")[0][0], seed) for seed in (1, 2, 3)]
    images = judging.make_images(maker, jobs)
    assert [image.job for image in images] == jobs
    ((made, texts),) = judging.batches_of(images)
    assert texts == [job.prompt.text for job in jobs]
    assert torch.equal(made.images, maker.make(texts, [1, 2, 3], "knife", torch.zeros(3)).images)
    assert [image.shown for image in images] == [look(image).shown for image in made.images]


def test_what_calibrations_and_paces_are_made_from(monkeypatch):
    """The implied prompts of each thing and style; prompts that name the concept."""
    given = {}

    def calibrate(maker, concept, weights, *, implied):
        given[concept] = implied
        return concept

    monkeypatch.setattr(calibrations, "calibrate", calibrate)
    found = calibrations.calibrations.__wrapped__(build_pipe(), True)
    assert given == {}  # each is made when it is asked for
    assert (found["wine"], found["wine"], tuple(given)) == ("wine", "wine", ("wine",))
    assert "a cat" not in found
    given.clear()
    assert [found[concept] for concept in found] == list(CONCEPTS)
    assert {*given} == {*CONCEPTS} - {"wine"}
    assert len(given["knife"]) == 12
    assert all("a robbery" in text or "a chef at work" in text for text in given["knife"])
    first = {STYLES[style].phrase: STYLES[style].implied[0] for style in NAMED_STYLES}
    assert all(given[phrase] and all(implied in text for text in given[phrase]) for phrase, implied in first.items())
    samples = labelling_speed._samples(24)
    assert len(set(samples)) == 24
    assert all(labelling_speed.CONCEPT in sample.prompt for sample in samples)


@pytest.mark.parametrize(("part", "expected"), [(0.5, 100 * 0.5), (1, 100 * (0.25 * 0.5 - 0.75 * 0.2))])
def test_the_best_part_counts_alone(part, expected):
    """The concept's text helps in one quarter and harms elsewhere."""
    without, with_concept = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1.2)
    with_concept[..., 2:, 2:] = 0.5
    assert float(best_part(torch.stack([with_concept, without]), part)) == pytest.approx(expected, abs=1e-3)
