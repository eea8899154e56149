"""What the WebUI says while and after it erases, on the fake host: progress, lines for each image, kept jobs."""

from __future__ import annotations

import html
import importlib
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_host import Processing, Sampling, picture_of
from test_webui_calibration import ABSENT, PRESENT, kept
from test_webui_glue import host  # noqa: F401  # a fixture
from test_webui_shown import BEFORE, run, same

from lib_gie.core.scales.resolved import ResolvedScales
from lib_gie.core.scales.scale_rules import Replacement
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.request.infotext import settings_line
from lib_gie.options import AUTOMATIC

PICTURES = "GIE pictures"
ONE = Sampling(parts=((1.0,),))


def module(name: str):
    return importlib.import_module(f"lib_gie.hosts.webui.{name}")


# -- while it runs ------------------------------------------------


def texts_of(host, *parts, **options) -> list:  # noqa: F811
    """What the progress bar says after each step's UNet call."""
    found, state = [], host.shared.state
    state.textinfo = "before"
    host.preview = lambda *unused: found.append(state.textinfo)
    run(host, *parts, **options)
    assert state.textinfo == "before"
    return found


def test_the_progress_says_that_a_prompt_is_read(host, tmp_path):  # noqa: F811
    """In the step in which it is, in each batch, and of what is read alone."""
    kept(host, tmp_path, PRESENT, "wine")
    asked = {"concepts": "wine, dog", "adapter": AUTOMATIC}
    reading = "reading how present wine is"
    assert texts_of(host, asked, n_iter=2) == [reading, "before"] * 2
    assert texts_of(host, {**asked, "end": 0.4}, sampling=ONE) == [reading, "before"]


def test_the_progress_says_nothing_where_nothing_is_read(host):  # noqa: F811
    assert texts_of(host, {}) == ["before", "before"]
    assert texts_of(host) == ["before", "before"]


def test_the_progress_is_put_back_after_an_error(host, tmp_path):  # noqa: F811
    kept(host, tmp_path, PRESENT, "wine")
    state = host.shared.state
    state.textinfo = "before"

    def fail(*unused):
        raise RuntimeError("out of memory")

    host.preview = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        run(host, {"concepts": "wine", "adapter": AUTOMATIC})
    assert state.textinfo == "before"


def test_many_concepts_do_not_fill_the_progress(host):  # noqa: F811
    state = host.shared.state
    state.textinfo = None
    text = module("sampling.reading_text").ReadingText()
    text.begin_step(["a thing of many words"] * 20)
    assert len(state.textinfo) < 120
    text.end()
    assert state.textinfo is None


# -- the lines ------------------------------------------------


def infotexts_of(done, seed: int = 0) -> list[str]:
    """The infotexts as the WebUI writes them, the first image of this seed. The fake host has dicts without seeds."""
    pairs = done.extra_generation_params.get(PICTURES, {}).get("pairs", ())
    results = {second: first for first, second in pairs}
    first_shown = min(results, default=len(done.infotexts))
    seeds = [seed + (at if at < first_shown else results.get(at, 0)) for at in range(len(done.infotexts))]
    written = zip(seeds, done.infotexts, strict=True)
    return ["a knife\n" + settings_line({"Steps": 2, "Seed": seed, **text}) for seed, text in written]


def told(done, **more) -> str:
    """The JSON that the WebUI keeps of a generation."""
    info = {
        "extra_generation_params": {
            key: value for key, value in done.extra_generation_params.items() if key in ("GIE read-out", PICTURES)
        },
        "all_seeds": [0, 1, 2, 3], "infotexts": infotexts_of(done), "index_of_first_image": 0, **more,
    }  # fmt: skip
    return json.dumps(info)


def lines(done, concepts: str = "", **more) -> list[str]:
    return plain(told(done, **more), concepts)


def plain(info: str, concepts: str = "") -> list[str]:
    shown = module("shown.erased_lines").lines_of(info, concepts)
    return [
        html.unescape(re.sub("<.*?>", "", one))
        for one in re.findall(r"<li>.*?</li>|<p class='gie-erased'.*?</p>", shown)
    ]


def next_step(done, **more) -> str:
    """What is said below the lines."""
    shown = module("shown.erased_lines").lines_of(told(done, **more), "")
    found = re.search("<p class='gie-next'>(.*?)</p>", shown)
    return re.sub("<.*?>", "", found[1]) if found else ""


def test_each_image_has_a_line(host):  # noqa: F811
    _, done = run(host, {"concepts": "knife, wine:0"})
    found = lines(done)
    assert [line.partition(":")[0] for line in found] == ["Seed 0", "Seed 1"]
    for line in found:
        assert re.search(r"erasure applied to knife \(attention to it up to \d+ %, scale -3\.00, fixed scale\)", line)
        assert re.search(r"wine not erased \(attention to it up to \d+ %, scale 0\.00, fixed scale\)", line)


def test_concepts_that_an_infotext_quotes_have_lines(host):  # noqa: F811
    """They are found in it again, whatever they are made of."""
    host.shared.cmd_opts.gie_enforce = '"512x512", "a, GIE concepts: b"'
    _, done = run(host, {"concepts": '"wine, red":0.5, "a: b", "say ""hi""", GIE scale, Text'}, sampling=ONE)
    (line,) = lines(done)
    said = [one.removeprefix("erasure applied to ") for one in line.removeprefix("Seed 0: ").split("; ")]
    names = [re.split(r", as always|  ?\(", one)[0] for one in said]
    assert names == ["512x512", "a, GIE concepts: b", "wine, red", "a: b", 'say "hi"', "GIE scale", "Text"]
    assert module("shown.readout").as_html(told(done)).count("<tr>") == 1 + 7


def test_what_found_the_scale_is_named(host, tmp_path):  # noqa: F811
    name = kept(host, tmp_path, PRESENT, "wine")
    _, done = run(host, {"concepts": "wine", "adapter": AUTOMATIC}, sampling=ONE)
    (line,) = lines(done)
    assert re.fullmatch(
        rf"Seed 0: erasure applied to wine \(named or implied 100 %, scale -[\d.]+, calibration {name}\)", line
    )


def test_where_the_fixed_scale_took_its_place_the_line_says_so(host, tmp_path, monkeypatch):  # noqa: F811
    """Not what an admin enforces: it would tell for which prompts erasing is weak."""
    name = kept(host, tmp_path, ABSENT, "wine")
    replacement = Replacement(-3.0, "calibration", "it is strange")
    monkeypatch.setattr(ResolvedScales, "replacements", lambda *unused: (replacement,))
    _, done = run(host, {"concepts": "wine", "adapter": AUTOMATIC}, sampling=ONE)
    (line,) = lines(done)
    assert line.endswith(f", fixed scale, stronger than that of the calibration {name}, because it is strange)")
    assert "<td>fixed scale, stronger than that of the calibration" in module("shown.readout").as_html(told(done))
    host.shared.cmd_opts.gie_enforce = "wine"
    _, enforced = run(host, sampling=ONE)
    assert "stronger" not in told(enforced)
    assert "strange" not in told(enforced)


def test_an_image_from_which_nothing_was_erased_says_so(host, tmp_path):  # noqa: F811
    kept(host, tmp_path, ABSENT, "wine")
    _, done = run(host, {"concepts": "wine", "adapter": AUTOMATIC})
    found = lines(done)
    assert len(found) == 2
    assert all("nothing was erased: wine not erased (named or implied 0 %, scale 0.00" in line for line in found)
    _, erased = run(host, {})
    assert not any("nothing was erased" in line for line in lines(erased))


def test_what_to_do_next_is_said_of_what_a_user_has_chosen(host, tmp_path):  # noqa: F811
    """Nobody has looked whether it is gone, and a strength changes nothing where the scale is 0."""
    kept(host, tmp_path, ABSENT, "wine")
    _, erased = run(host, {"concepts": "knife"})
    assert next_step(erased).startswith("Look whether it is gone. If an image still shows it, take its seed")
    assert "raise Strength to 1.5 and generate again" in next_step(erased)
    assert "raise Strength to 3 and" in next_step(run(host, {"concepts": "knife", "strength": 2.8})[1])
    assert "Fixed scale" not in next_step(erased)
    steps, composition = "set Start to 0 and End to 1", "untick Keep composition"
    for less, said in (
        ({"start": 0.5}, steps), ({"end": 0.5, "keep_composition": True}, f"{steps}, {composition}"),
        ({"keep_composition": True, "strength": 3}, composition), ({"concepts": "knife:0.5"}, "no concept a weight"),
        ({"start": 0.5, "strength": 0.5}, f"{steps}, set Strength to 1"), ({"hires": "first only"}, "Hires. fix pass"),
    ):  # fmt: skip
        found = next_step(run(host, {"concepts": "knife", **less}, sampling=Sampling(steps=4))[1])
        assert said in found
        assert "so that more is erased" in found
        assert "raise Strength" not in found
    _, absent = run(host, {"concepts": "wine", "adapter": AUTOMATIC})
    assert next_step(absent) == "If an image shows what was not erased, choose Fixed scale under Adapter."
    for nothing in ({"concepts": "wine:0"}, {"concepts": "wine:0", "adapter": AUTOMATIC},
                    {"concepts": "wine", "adapter": AUTOMATIC, "strength": 0}):  # fmt: skip
        assert next_step(run(host, nothing)[1]) == ""
    _, greatest = run(host, {"concepts": "knife", "strength": 3})
    assert "no greater Strength is possible" in next_step(greatest)
    _, strongest = run(host, {"concepts": "knife", "strength": 3, "scale": -20})
    assert "neither a greater Strength nor a lower Scale is possible: take another seed" in next_step(strongest)
    sent = {"kind": "fixed scale", "scale": -20.0, "strength": 0.0, "weight": 1.0}  # by who knows the address
    assert module("shown.erased_lines")._is_strongest(sent) is False
    host.shared.cmd_opts.gie_enforce = "bomb"
    _, enforced = run(host)
    assert next_step(enforced) == ""


def test_who_forgot_the_tick_is_told(host):  # noqa: F811
    _, off = run(host)
    assert lines(off, "  ") == []
    (line,) = lines(off, "knife")
    assert line.startswith("Nothing was erased: concepts are filled in")
    _, on = run(host, {})
    del on.extra_generation_params["GIE read-out"]  # as a script may leave it
    assert lines(on, "knife") == []


def test_what_is_always_erased_says_no_more(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "bomb"
    _, done = run(host, {}, sampling=ONE)
    (line,) = lines(done)
    assert line.startswith("Seed 0: erasure applied to bomb, as always on this WebUI; erasure applied to knife (")


def test_who_forgot_the_tick_is_told_where_something_is_enforced(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "bomb"
    _, done = run(host, sampling=ONE)
    always = "Seed 0: erasure applied to bomb, as always on this WebUI"
    said, line = lines(done, "Bomb, knife:0.5, wine")
    assert line == always
    assert said.startswith("Your own concepts were not erased (knife, wine): Erase concepts was not ticked")
    for concepts in ("", "BOMB", "knife:x"):  # what cannot be read has its own notice
        assert lines(done, concepts) == [always]
    _, ticked = run(host, {}, sampling=ONE)
    assert len(lines(ticked, "knife")) == 1
    _, nothing_else = run(host, {"concepts": "bomb"}, sampling=ONE)
    assert lines(nothing_else, "bomb") == [always]


# -- after the WebUI's button for upscaling ------------------------------------------------


def upscaled(info: str, number: int, done) -> str:
    """What the WebUI keeps when a picture has been upscaled by a job: nothing changes but the infotexts."""
    kept = json.loads(info)
    seed = int(re.search(r"Seed: (\d+)", kept["infotexts"][number])[1])
    kept["infotexts"][number : number + 1] = infotexts_of(done, seed)
    return json.dumps(kept)


def table(info: str) -> str:
    return module("shown.readout").as_html(info)


def test_an_upscaled_image_without_erasure_is_not_called_erased(host):  # noqa: F811
    _, one = run(host, {}, sampling=ONE)
    _, two = run(host, {})
    _, off = run(host, sampling=ONE)
    info = upscaled(told(one), 0, off)
    assert (plain(info), table(info)) == ([], "")
    assert module("shown.readout").presence_of(info) == {}
    assert plain(info, "knife")[0].startswith("Nothing was erased: concepts are filled in")
    info = upscaled(told(two), 0, off)
    (line,) = plain(info, "knife")
    assert line.startswith("Seed 1: erasure applied to knife")
    assert table(info).count("<tr>") == 1 + 1


@pytest.mark.parametrize("now", [{"concepts": "wine"}, {"scale": 0.0}])
def test_an_upscaled_image_is_not_called_what_it_was_before(host, now):  # noqa: F811
    _, one = run(host, {}, sampling=ONE)
    _, other = run(host, now, sampling=ONE)
    info = upscaled(told(one), 0, other)
    assert (plain(info, "knife"), table(info)) == ([], "")
    _, same_again = run(host, {}, sampling=ONE)
    info = upscaled(told(one), 0, same_again)
    assert plain(info) == lines(one)
    assert table(info) == table(told(one))


def test_an_upscaled_image_has_what_is_always_erased(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "bomb"
    _, one = run(host, {}, sampling=ONE)
    info = upscaled(told(one), 0, run(host, sampling=ONE)[1])
    assert plain(info) == ["Seed 0: erasure applied to bomb, as always on this WebUI"]
    assert table(info).count("<tr>") == 1 + 1


def pairs_of(info: str) -> list[tuple[int, int]]:
    """Where the page is told that the same image is with and without erasure."""
    found = re.search("data-pairs='(.*?)'", module("shown.erased_lines").lines_of(info, ""))
    return [tuple(pair) for pair in json.loads(html.unescape(found[1]))] if found else []


def test_pairs_that_have_moved_are_dropped(host):  # noqa: F811
    _, two = run(host, BEFORE, pictures=True)
    assert pairs_of(told(two)) == [(0, 2), (1, 3)]
    _, three = run(host, BEFORE, sampling=ONE, pictures=True)
    assert len(three.infotexts) == 3
    info = upscaled(told(two), 0, three)
    assert pairs_of(info) == []
    assert not any("for comparison" in line for line in plain(info))
    info = upscaled(told(two), 1, three)
    assert pairs_of(info) == []  # both have an image of another seed in the second place


def test_an_upscaled_comparison_is_none_where_it_is_erased(host):  # noqa: F811
    _, done = run(host, BEFORE, sampling=ONE, pictures=True)
    assert len(lines(done)) == 2
    (line,) = plain(upscaled(told(done), 1, run(host, {}, sampling=ONE)[1]))
    assert line.startswith("Seed 0: erasure applied to knife")
    again_off = upscaled(told(done), 1, run(host, sampling=ONE)[1])
    assert plain(again_off) == lines(done)


def test_what_a_prompt_says_is_not_taken_for_an_infotext(host):  # noqa: F811
    _, one = run(host, {}, sampling=ONE)
    kept = json.loads(told(one))
    prompts = ["a knife, Seed: 0, GIE concepts: knife", 'Hires prompt: "a, GIE concepts: knife, b"']
    for text in (f"{prompts[0]}\nSteps: 2, Seed: 0", f"x\nSteps: 2, {prompts[1]}, Seed: 0"):
        assert plain(json.dumps({**kept, "infotexts": [text]})) == []
    kept["infotexts"][0] += "\nTemplate: a {cat|dog}"  # as scripts add lines
    assert plain(json.dumps(kept)) == lines(one)


def test_images_of_one_seed_are_told_apart(host):  # noqa: F811
    _, two = run(host, {})
    on = "x\nSteps: 2, Seed: 0, Variation seed: {}, GIE concepts: knife, GIE scale: -3"
    texts = ["x\nSteps: 2, Seed: 0, Variation seed: 5", on.format(6)]
    info = told(two, all_seeds=[0, 0], all_subseeds=[5, 6], infotexts=texts)
    assert len(plain(info)) == 1
    assert len(plain(told(two, all_seeds=[0, 0], all_subseeds=[5, 6], infotexts=[on.format(5), texts[1]]))) == 2


@pytest.mark.parametrize(
    "info",
    [
        None, "", "no JSON", "[]", "{}", '{"infotexts": 3}',
        '{"extra_generation_params": {"GIE read-out": {"x": [1]}}}',
        '{"extra_generation_params": {"GIE read-out": {"0": [{"concept": "a"}]}, "GIE pictures": 3}}',
    ],
)  # fmt: skip
def test_no_lines_of_something_else(host, info):  # noqa: F811
    found = module("shown.erased_lines")
    assert found.lines_of(info, "") == ""
    assert found.lines_of(info, "knife") == ""
    assert not found.can_ask(info)
    assert pairs_of(info) == []


@pytest.mark.parametrize("pictures", [3, [], {"again": 3}, {"again": "<i>'\">", "pairs": 3}], ids=str)
def test_lines_stay_where_what_is_told_of_pictures_is_none(host, pictures):  # noqa: F811
    """Whoever knows the address can send anything; nothing of it is markup."""
    info = json.loads(told(run(host, {})[1]))
    info["extra_generation_params"][PICTURES] = pictures
    shown = module("shown.erased_lines").lines_of(json.dumps(info), "")
    assert "<b>Seed 0</b>" in shown
    assert "<i>" not in shown.partition("<p class='gie-next'>")[0]
    assert pairs_of(json.dumps(info)) == []


def test_lines_are_escaped(host):  # noqa: F811
    entry = {"concept": "<b>x</b>", "scale": -1, "by": "<i>", "kind": "<i>", "present": 0.5, "always": False}
    texts = [settings_line({"Seed": "<i>", "GIE concepts": "<b>x</b>", "GIE enforced": "bomb"})]
    info = {
        "extra_generation_params": {"GIE read-out": {"0": [entry]}}, "all_seeds": ["<i>"], "infotexts": texts,
    }  # fmt: skip
    shown = module("shown.erased_lines").lines_of(json.dumps(info), "")
    assert "&lt;b&gt;x" in shown
    info["infotexts"] = [settings_line({"Seed": 0, "GIE enforced": "bomb"})]
    assert "(&lt;b&gt;x)" in (off := module("shown.erased_lines").lines_of(json.dumps(info), "bomb, <b>x"))
    assert "<b>x" not in off
    assert "<b>x" not in shown
    assert "<i>" not in shown.partition("<p class='gie-next'>")[0]


def test_many_images_have_few_lines(host):  # noqa: F811
    _, done = run(host, {}, n_iter=8)
    found = lines(done, all_seeds=list(range(16)))
    assert len(found) == 12 + 1
    assert found[-1] == "and 4 more"


def test_the_images_without_erasure_have_lines(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "bomb"
    _, done = run(host, BEFORE, pictures=True)
    assert lines(done)[2:] == [
        f"Picture {number}, seed {number - 3}, for comparison: erasure applied only to bomb, as always on this WebUI"
        for number in (3, 4)
    ]
    host.shared.cmd_opts.gie_enforce = None
    _, done = run(host, BEFORE, sampling=ONE, pictures=True)
    assert lines(done)[1:] == ["Picture 2, seed 0, for comparison: nothing was erased"]


# -- where both images are ------------------------------------------------


def test_both_images_are_found_in_the_gallery(host):  # noqa: F811
    _, done = run(host, BEFORE, n_iter=2, pictures=True)
    assert done.extra_generation_params[PICTURES]["pairs"] == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert all(PICTURES not in text for text in done.infotexts)
    _, done = run(host, {}, pictures=True)
    assert done.extra_generation_params[PICTURES]["pairs"] == []


def test_images_that_have_moved_are_found(host):  # noqa: F811
    def put_first(p, processed):
        processed.images.insert(0, picture_of(torch.zeros(3, 8, 8)))
        processed.infotexts.insert(0, {})

    _, done = run(host, BEFORE, more=[SimpleNamespace(postprocess=put_first)], pictures=True)
    assert done.extra_generation_params[PICTURES]["pairs"] == [(1, 3), (2, 4)]


# -- made again without erasure ------------------------------------------------


def again(done) -> str | None:
    return done.extra_generation_params[PICTURES]["again"]


def without_erasure(host, job, number: int):  # noqa: F811
    """The image that the job makes without erasure; the fake host does not draw its seeds from ``p.seed``."""
    p = job.without_erasure(number)
    assert (p.batch_size, p.n_iter, p.seed) == (1, 1, number)
    p.all_seeds, p.all_prompts, p.sampling = [p.seed], [p.prompt], ONE
    return p, host.processing.process_images_inner(p)


def image_alone(host, seed: int) -> torch.Tensor:  # noqa: F811
    p = Processing(host, sampling=ONE)
    p.all_seeds = [seed]
    return host.processing.process_images_inner(p).images[0]


def test_the_image_without_erasure_is_made_later(host):  # noqa: F811
    """It is that of the extension switched off, and its infotext knows of no erasure."""
    _, done = run(host, {"concepts": "knife, wine"}, n_iter=2)
    job = module("shown.kept_jobs").kept_job(again(done))
    assert job.number_of("2", None) == job.number_of(2, "2") == 2
    for number in (0, 2):
        _, made = without_erasure(host, job, number)
        assert torch.equal(made.images[0], image_alone(host, number))
        assert made.infotexts == [{}]


def test_what_is_enforced_is_erased_from_it(host):  # noqa: F811
    """Also what an admin enforces only after the job, and from what is made within it."""
    _, done = run(host, {"concepts": "wine"})
    job = module("shown.kept_jobs").kept_job(again(done))
    plain = image_alone(host, 0)
    host.shared.cmd_opts.gie_enforce = "knife"
    enforced = image_alone(host, 0)
    assert not torch.equal(plain, enforced)
    p, made = without_erasure(host, job, 0)
    assert torch.equal(made.images[0], enforced)
    assert made.infotexts == [{"GIE enforced": "knife"}]
    inner = Processing(host, sampling=ONE, scripts=p.scripts)
    inner.script_args = p.script_args  # as a detailer takes them over
    assert torch.equal(host.processing.process_images_inner(inner).images[0], enforced)


def test_only_enforced_concepts_keep_no_job(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "knife"
    _, done = run(host, {})
    assert again(done) is None


@pytest.mark.parametrize("how", ["api", "script", "nested"])
def test_jobs_that_nobody_can_ask_about_are_not_kept(host, how):  # noqa: F811
    inner = {}

    def selected(p):
        inner["done"] = run(host, {})[1]

    if how == "api":
        p = Processing(host, [{"concepts": "knife"}])
        p.is_api = True
        inner["done"] = host.processing.process_images_inner(p)
    elif how == "script":
        runner = host.runner_class()
        runner.selected = selected
        runner.run(Processing(host))
    else:
        run(host, {}, at_start=selected)
    assert again(inner["done"]) is None


def test_few_jobs_are_kept(host):  # noqa: F811
    jobs = module("shown.kept_jobs")
    names = [again(run(host, {})[1]) for _ in range(jobs.MOST_KEPT + 1)]
    assert len(set(names)) == len(names)
    for name in names[1:]:
        jobs.kept_job(name)
    for name in (names[0], None, 3, "guessed"):
        with pytest.raises(ErasureError, match=r"no longer knows .* the last 4 .* press Generate and ask again"):
            jobs.kept_job(name)


def test_an_upscaling_takes_no_place_among_the_kept_jobs(host):  # noqa: F811
    jobs = module("shown.kept_jobs")
    name = again(run(host, {})[1])
    for _ in range(jobs.MOST_KEPT):
        p = Processing(host, [{"concepts": "knife"}])
        p.txt2img_upscale = True
        assert again(host.processing.process_images_inner(p)) is None
    jobs.kept_job(name)


def test_a_job_that_is_one_of_several_is_not_kept(host):  # noqa: F811
    """As img2img's batch: each file is a job of the same object, and all have the same seeds."""
    jobs = module("shown.kept_jobs")
    p, first = run(host, {})
    second = host.processing.process_images_inner(p)
    assert again(second) is None
    with pytest.raises(ErasureError):
        jobs.kept_job(again(first))


def test_a_seed_of_another_job_is_refused(host):  # noqa: F811
    job = module("shown.kept_jobs").kept_job(again(run(host, {})[1]))
    for seed in (7, None, "x"):
        with pytest.raises(ErasureError, match="none of the last job's"):
            job.number_of(seed, None)


def test_the_kept_job_shares_nothing_with_the_running_one(host):  # noqa: F811
    p, done = run(host, {})
    job = module("shown.kept_jobs").kept_job(again(done))
    p.extra_generation_params["x"] = 1
    p.script_args.append("more")
    made = job.without_erasure(0)
    assert made.extra_generation_params == {}
    assert "more" not in made.script_args
    made.extra_generation_params["y"] = 1
    assert job.without_erasure(0).extra_generation_params == {}


def test_the_shown_picture_is_the_kept_one(host):  # noqa: F811
    """The image without erasure that the option shows is the one that is made later."""
    _, done = run(host, BEFORE, sampling=ONE, pictures=True)
    job = module("shown.kept_jobs").kept_job(again(done))
    _, made = without_erasure(host, job, 0)
    assert same(done.images[1], made.images[0])


# -- what the page is told of it ------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, None, "nothing was erased"),
        (None, "knife", "erasure applied only to knife, as always on this WebUI"),
        ("bomb", "bomb", "erasure applied only to bomb, as always on this WebUI"),
        ("bomb", "bomb:0.5, wine", "erasure applied only to bomb, wine, as always on this WebUI"),
        ("bomb", None, "nothing was erased"),
    ],
)
def test_the_comparison_says_what_was_erased_from_it(host, before, after, said):  # noqa: F811
    """Whatever an admin has changed since the erased image was made; then a note says that the two differ."""
    host.shared.cmd_opts.gie_enforce = before
    _, done = run(host, {}, sampling=ONE)
    chosen = module("shown.chosen_picture").ChosenPicture("0", told(done))
    host.shared.cmd_opts.gie_enforce = after
    _, made = without_erasure(host, module("shown.kept_jobs").kept_job(chosen.job), 0)
    (text,) = infotexts_of(made)
    info = chosen.with_unerased(1, text)
    assert plain(info)[1:] == [f"Picture 2, seed 0, for comparison: {said}"]
    on_demand = module("shown.on_demand")
    note = on_demand._differences(on_demand.entries_of(chosen.text), on_demand.entries_of(text))
    assert ("GIE enforced" in note) == bool(note) == (before != after)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("a cat\nNegative prompt: x\nSteps: 2, Seed: 0", ""),
        ("a cat, and more\nNegative prompt: x\nSteps: 2, Seed: 0", "(prompts)"),
        ("a cat\nSteps: 2, Seed: 0", "(prompts)"),
        ("a cat\nNegative prompt: x\nSteps: 3, Seed: 0", "(Steps)"),
    ],
)
def test_another_prompt_or_setting_of_the_comparison_is_told(host, made, told):  # noqa: F811
    """A script may change the prompts of each job."""
    on_demand = module("shown.on_demand")
    asked = on_demand.entries_of("a cat\nNegative prompt: x\nSteps: 2, Seed: 0")
    said = on_demand._differences(asked, on_demand.entries_of(made))
    assert told in said
    assert bool(said) == bool(told)


def test_the_gallery_finds_the_comparison_of_any_picture(host):  # noqa: F811
    """Also of one that is in the gallery without an infotext, and where the WebUI shows no results."""
    chosen_picture = module("shown.chosen_picture").ChosenPicture
    _, done = run(host, {})
    for chosen, result in (("0", 0), ("1", 1), (1, 1), ("7", 0), ("-1", 0)):
        kept = json.loads(chosen_picture(chosen, told(done)).with_unerased(3, "made"))
        assert kept["extra_generation_params"][PICTURES]["pairs"] == [[result, 3]]
        assert kept["infotexts"] == [*infotexts_of(done), infotexts_of(done)[0], "made"]
    kept = json.loads(chosen_picture("1", told(done)).with_unerased(0, "made"))
    assert (kept["infotexts"], kept["extra_generation_params"][PICTURES]["pairs"]) == (["made"], [])


BROKEN = [
    {"index_of_first_image": "x"}, {"index_of_first_image": 9}, {"index_of_first_image": -1},
    {"index_of_first_image": None}, {"index_of_first_image": True}, {"infotexts": []}, {"infotexts": [3, "x"]},
    {"infotexts": "xy"}, {"infotexts": None}, {"extra_generation_params": {}}, {"extra_generation_params": 3},
    {"extra_generation_params": {PICTURES: {"pairs": 3, "again": "x"}}},
    {"extra_generation_params": {PICTURES: {"pairs": []}}},
]  # fmt: skip


@pytest.fixture
def ask(host, monkeypatch):  # noqa: F811
    """What the button does; of the page only the names that it is built with are here."""
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "modules.call_queue", SimpleNamespace(wrap_gradio_gpu_call=None))
    monkeypatch.setitem(sys.modules, "modules.ui_tempdir", SimpleNamespace(check_tmp_file=lambda *unused: True))
    host.shared.demo = None
    return module("page.beside_gallery")._ask


@pytest.mark.parametrize("changed", BROKEN, ids=str)
def test_what_the_page_sends_is_checked_before_an_image_is_made(host, ask, changed):  # noqa: F811
    info = told(run(host, {})[1], **changed)
    with pytest.raises(ErasureError, match="press Generate first"):
        ask("task", "0", info, [], "")


@pytest.mark.parametrize("info", [None, "", "no JSON", "[]", "3", 3, "{}"])
def test_what_is_no_generation_is_refused(ask, info):
    with pytest.raises(ErasureError, match="press Generate first"):
        ask("task", "0", info, [], "")


@pytest.mark.parametrize("chosen", ["x", None, [0], float("inf")])
def test_a_choice_of_nothing_is_refused(host, ask, chosen):  # noqa: F811
    with pytest.raises(ErasureError, match="press Generate first"):
        ask("task", chosen, told(run(host, {})[1]), [], "")


def test_the_notes_on_the_images_stay(host, ask, monkeypatch):  # noqa: F811
    """All but the time that the generation took: the WebUI adds that of this job."""
    made = SimpleNamespace(picture=object(), text="x\nSeed: 0", notes=[])
    monkeypatch.setattr(module("shown.on_demand"), "make_unerased", lambda *unused: made)
    info, before = told(run(host, {})[1]), "<p class='comments'>a note</p>"
    for log in (before, f"{before}<div class='performance'>2 s</div>"):
        assert ask("task", "0", info, [], log)[2] == before
    made.notes.append("settings <have> changed")
    assert ask("task", "0", info, [], before)[2] == f"{before}<p class='comments'>settings &lt;have&gt; changed</p>"
    assert ask("task", "0", info, [], None)[2] == "<p class='comments'>settings &lt;have&gt; changed</p>"
    again = ask("task", "0", info, [], before)[2]
    assert ask("task", "0", info, [], again)[2] == again  # once is enough
    failed = "<div class='error'>ErasureError: it was stopped</div><div class='performance'>1 s</div>"
    assert ask("task", "0", info, [], failed)[2] == "<p class='comments'>settings &lt;have&gt; changed</p>"


def test_what_cannot_be_asked_for_says_what_to_do(host, ask):  # noqa: F811
    info = json.loads(told(run(host, {})[1]))
    with pytest.raises(ErasureError, match="gallery cannot be read; press Generate"):
        ask("task", "0", json.dumps(info), [3], "")
    foreign = ["x\nSteps: 2, Seed: 99", *info["infotexts"]]
    with pytest.raises(ErasureError, match="none of the results; choose another one"):
        ask("task", "0", json.dumps({**info, "infotexts": foreign, "index_of_first_image": 1}), [], "")
    for _ in range(module("shown.kept_jobs").MOST_KEPT):
        run(host, {})
    with pytest.raises(ErasureError, match=r"no longer knows .*; press Generate and ask again"):
        ask("task", "0", json.dumps(info), [], "")
