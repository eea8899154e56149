"""Settings that vary, and the figures in them, with the demo model."""

from __future__ import annotations

import json

import pytest

from lib_gie.assets import MODELS
from lib_gie.cli import main
from lib_gie.demo.text import load_tokenizer
from lib_gie.demo.world.things import UNWANTED
from lib_gie.evaluation import varied_figures
from lib_gie.evaluation.generate import Job, Sampling
from lib_gie.evaluation.long_prompts import own_tokens
from lib_gie.evaluation.measures import MAIN, compare, jobs_of
from lib_gie.evaluation.outcomes import Outcome
from lib_gie.evaluation.variations import FACTORS, Setting, lengthened, settings_of
from lib_gie.hosts.diffusers import load_pipeline


def settings(factor: str, *concepts: str) -> dict[str, Setting]:
    found = settings_of([factor], [job for job in jobs_of("validation", 1) if job.concept in (concepts or UNWANTED)])
    assert {setting.factor for setting in found} == {factor}
    return {setting.label: setting for setting in found}


TOKENIZER = load_tokenizer()


def length(job: Job) -> int:
    return len(own_tokens(TOKENIZER, job.prompt.text))


# -- settings ------------------------------------------------


def test_others_of_the_eight_things_are_erased_too():
    found = settings("concepts")
    assert [*found] == ["1", "2", "4", "8"]
    for label, setting in found.items():
        assert {job.prompt.kind for job in setting.jobs} == {*MAIN}
        for job in setting.jobs:
            assert job.own == job.concepts[:1] == (job.prompt.concept,)
            assert len({*job.concepts} & UNWANTED.keys()) == len(job.concepts) == int(label)
    last = [*UNWANTED][-1]
    (wrapped,) = {job.concept for job in settings("concepts", last)["2"].jobs}
    assert wrapped == f"{last}, {next(iter(UNWANTED))}"


def test_longer_prompts_end_with_words_that_mean_nothing():
    found = settings("length")
    assert [*found] == ["short", "77 tokens", "150 tokens"]
    for short, full, double in zip(*(setting.jobs for setting in found.values()), strict=True):
        assert short.prompt.kind == "named"
        assert length(short) < 50
        assert 73 <= length(full) <= 75
        assert 148 <= length(double) <= 150
        for job in (full, double):
            assert job.prompt.text.startswith(f"{short.prompt.text}, ")
            assert job.prompt.objects == short.prompt.objects


def test_the_prompts_own_words_can_be_first_between_or_last():
    first, middle, last = (setting.jobs for setting in settings("position").values())
    for short, *others in zip(settings("length")["short"].jobs, first, middle, last, strict=True):
        own = short.prompt.text
        places = [job.prompt.text.index(own) for job in others]
        assert places[0] == 0 < places[1] < places[2]
        assert others[2].prompt.text.endswith(f", {own}")
        assert {length(job) for job in others} <= {73, 74, 75}
    assert first == settings("length")["77 tokens"].jobs


def test_sampling_varies_alone():
    assert [setting.sampling for setting in settings("steps").values()] == [Sampling(n) for n in (10, 20, 50)]
    assert [setting.sampling.cfg for setting in settings("cfg").values()] == [2, 4, 7, 10]
    jobs = tuple(jobs_of("validation", 1))
    assert all(setting.jobs == jobs for factor in ("steps", "cfg") for setting in settings(factor).values())


# -- figures ------------------------------------------------


def test_what_else_is_erased_counts_neither_as_left_nor_as_kept():
    named = next(job for job in jobs_of("validation", 1) if job.prompt.objects == ("knife", "cat"))
    both = Job(named.prompt, 1, besides=("cat",))

    def seen(*objects: str) -> Outcome:
        return Outcome(objects, ("plain",), "plain")

    for job, kept in ((named, 1), (both, 0)):
        (row,) = compare("x", {job: seen("cat", "knife")}, {job: seen("cat", "cat")})
        assert (row.left.hits, row.left.total) == (0, 1)
        assert row.kept.total == kept
        assert row.replaced.hits == 1
        (row,) = compare("x", {job: seen("cat", "knife")}, {job: seen()})
        assert row.unharmed.hits == 1 - kept


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return [job for job in jobs_of("validation", 1) if job.prompt.kind == "named" and job.concept == "knife"][:2]


def test_figures_of_every_setting_from_one_image_without_erasure(pipe, jobs, tmp_path):
    """Two prompts, one seed: what settings share is made once, and nothing is made again."""
    tried = [
        Setting("concepts", "1", tuple(jobs)),
        Setting("concepts", "2", tuple(Job(job.prompt, job.seed, ("bomb",)) for job in jobs)),
        Setting("length", "150 tokens", tuple(lengthened(job, 150) for job in jobs)),
        Setting("steps", "2", tuple(jobs), Sampling(steps=2)),
    ]
    names = ["none", "fixed scale -1"]
    for _ in range(2):
        rows = varied_figures.measure(pipe, tried, names, MODELS, keep=tmp_path, model="m")
        assert [(row.factor, row.setting, row.figures.method) for row in rows] == [
            (setting.factor, setting.label, name) for setting in tried for name in names
        ]
        kept = [line for file in tmp_path.rglob("*.jsonl") for line in file.read_text().splitlines() if line]
        assert len(kept) == 2 * (2 + 3) + 2 * (1 + 1)  # a prompt's plain images: short and long; and with two steps
    assert {json.loads(line)[1] for line in kept} == {"", "knife", "knife, bomb"}
    for row in rows:
        assert row.figures.unharmed.total == row.shown.total == 2
        assert row.figures.left.total == row.shown.hits
        if row.figures.method == "none":
            assert row.figures.left.hits == row.figures.left.total
    text = varied_figures.as_page(rows, "COMMAND", "m")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## How to read the figures", "## The methods",
        "## Number of concepts erased at once", "## Length of the prompt", "## Sampling steps",
    ]  # fmt: skip
    assert rows[0].as_json()["shown"] == rows[0].shown.value


def test_every_factor_has_a_table():
    outcomes = dict.fromkeys(jobs_of("train", 1)[:1], Outcome((), ("plain",), "plain"))
    (row,) = compare("m", outcomes, outcomes)
    for factor in FACTORS:
        varied = varied_figures.VariedFigures(factor, "x", row)
        assert "| x " in varied_figures.as_page([varied], "COMMAND", "m")
        assert "| x " in varied_figures.as_text([varied])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--vary", "weather"], "--vary takes some of concepts, length"),
        (["--vary", "steps", "--kinds", "all"], "does not go with --kinds"),
        (["--vary", "steps", "--record", "--adapter", "demo-knife"], "does not go with --kinds"),
        (["--kinds", "nonsense"], "--kinds takes some of named, implied"),
        (["--kinds", "named", "--choose-scale"], "does not go with --choose-scale"),
        (["--kinds", "named", "--concepts", "watercolour", "--methods", "none"], "no prompt of the kinds named is for"),
        (["--concepts", "gun"], "--concepts takes some of knife, "),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, arguments, says):
    assert main(["evaluate", *arguments]) == 2
    assert says in capsys.readouterr().err
