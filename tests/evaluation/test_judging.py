"""How a judge's agreement with the detector is measured."""

from __future__ import annotations

import pytest
import torch

from lib_gie.demo.glyphs import UNWANTED
from lib_gie.demo.splits import Prompt
from lib_gie.evaluation import judging
from lib_gie.evaluation.generate import Job
from lib_gie.training import judges
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Verdict
from lib_gie.training.judges.self_judge import best_part


def seen(text: str, objects: tuple[str, ...], concept: str, kind: str) -> judging.Seen:
    job = Job(Prompt(text, objects, None, concept, kind), 1)
    return judging.Seen(job, Made(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2)), frozenset(objects))


def test_auc():
    assert judging.auc([3, 2, 1, 0], [True, True, False, False]) == 1
    assert judging.auc([0, 1, 2, 3], [True, True, False, False]) == 0
    assert judging.auc([1, 1], [True, False]) == 0.5


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
    images = [seen(f"a {name}", (name,), name, "explicit") for name in UNWANTED]
    images += [seen("a robbery", ("knife",), "knife", "implicit"), seen("a cat", ("cat",), "knife", "unrelated")]
    found = {entry.concept: entry for entry in judging.agreement(None, "by the text", images)}
    assert found["knife"].auc == 1
    assert (found["knife"].having.hits, found["knife"].having.total) == (1, 2)
    assert (found["knife"].lacking.hits, found["knife"].lacking.total) == (8, 8)
    assert found["wine"].having.value == found["wine"].lacking.value == 1
    assert judging.median_auc(list(found.values())) == 1
    assert judging.as_plain(list(found.values()))["concepts"]["knife"]["right_where_it_shows"] == 0.5
    assert "median AUC: 1.000" in judging.as_text(list(found.values()))


@pytest.mark.parametrize(("part", "expected"), [(0.5, 100 * 0.5), (1, 100 * (0.25 * 0.5 - 0.75 * 0.2))])
def test_the_best_part_counts_alone(part, expected):
    """The concept's text helps in one quarter and harms elsewhere."""
    without, with_concept = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1.2)
    with_concept[..., 2:, 2:] = 0.5
    assert float(best_part(torch.stack([with_concept, without]), part)) == pytest.approx(expected, abs=1e-3)
