"""What the WebUI shows of an erasure, on the fake host: images without it, attention, read-out, kept composition."""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_host import Processing, Runner, Sampling, decoded, picture_of
from PIL import Image, ImageChops
from test_webui_glue import host  # noqa: F401  # a fixture

from lib_gie.errors import ErasureError, OptionError

ON = {"concepts": "knife", "adapter": "Fixed scale", "scale": -3.0}
BEFORE, ATTENTION, KEEP = {"show_before": True}, {"show_attention": True}, {"keep_composition": True}


def run(host, *more, **options):  # noqa: F811
    """One job with these arguments, its always-on script in place."""
    arguments = [{key: value for part in (ON, *more) for key, value in part.items()}] if more else []
    script = importlib.import_module("lib_gie.webui.script").GrowthInhibitorsScript()
    script.args_from, script.args_to = 1, 1 + len(arguments)
    return host.process(arguments, scripts=Runner(script), **options)


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def latents(done, count=2) -> torch.Tensor:
    return torch.stack(done.images[:count])


def before_of(host, done) -> list[Image.Image]:  # noqa: F811
    """The pictures without erasure among a job's images: those whose infotext knows of none."""
    texts = done.infotexts
    return [done.images[k] for k, text in enumerate(texts) if isinstance(text, dict) and "GIE concepts" not in text]


def without(host, **options) -> list[torch.Tensor]:  # noqa: F811
    return run(host, **options)[1].images


def finished(latents: torch.Tensor) -> Image.Image:
    """The picture that the fake host makes of an image's latents."""
    return picture_of(decoded(latents[None])[0])


@pytest.mark.parametrize("hires", [False, True])
def test_what_it_would_have_been_is_the_image_without_erasure(host, hires):  # noqa: F811
    plain = without(host, n_iter=2, enable_hr=hires)
    erased = latents(run(host, {}, n_iter=2, enable_hr=hires)[1], 4)
    _, done = run(host, BEFORE, n_iter=2, enable_hr=hires)
    assert torch.equal(latents(done, 4), erased)  # the second image changes nothing in the first
    pictures = before_of(host, done)
    assert len(pictures) == 4
    assert all(same(picture, finished(image)) for picture, image in zip(pictures, plain, strict=True))
    assert all("GIE concepts" in text for text in done.infotexts[:4])
    assert done.images[-1].size > (64, 64)  # all of them in one sheet
    assert len(done.images) == len(done.infotexts) == 4 + 4 + 1
    assert host.saved == []


def test_saved_where_the_user_says_so(host):  # noqa: F811
    host.shared.opts.gie_save_before = True
    run(host, BEFORE)
    assert [(one["seed"], one["suffix"]) for one in host.saved] == [(0, "-without-erasure"), (1, "-without-erasure")]
    assert all("GIE concepts" not in one["info"] for one in host.saved)


def test_where_another_extension_samples_in_its_own_way(host):  # noqa: F811
    """It is still erased from; that the image without erasure is missing is said."""
    guard = sys.modules["lib_gie.webui.guard"]
    script = importlib.import_module("lib_gie.webui.script").GrowthInhibitorsScript()
    script.args_from, script.args_to = 1, 2

    def replaced(p):
        inner = Processing.sample
        p.sample = lambda **kwargs: inner(p, **kwargs)
        return importlib.import_module("fake_host").process_images_inner(p)

    done = guard._process(replaced, Processing(host, [{**ON, **BEFORE}], scripts=Runner(script)))
    assert torch.equal(latents(done), latents(run(host, {})[1]))
    assert "is not shown: another extension samples in its own way" in done.comments


def test_attention_pictures(host):  # noqa: F811
    _, done = run(host, {**ATTENTION, "concepts": "knife, wine"})
    pictures = done.images[2:]
    assert len(pictures) == 2 * 2 * 2 + 1  # per image and concept: all steps and step by step; the sheet
    assert all("GIE concepts" in text for text in done.infotexts)
    assert torch.equal(latents(done), latents(run(host, {"concepts": "knife, wine"})[1]))


def test_pictures_of_an_enforced_concept_show_nothing_of_it(host):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "knife"
    enforced = without(host)
    p, done = run(host, BEFORE, ATTENTION, KEEP)
    assert len(done.images) == 2
    assert torch.equal(latents(done), torch.stack(enforced))
    assert any("always erases" in text for text in p.comments)
    _, more = run(host, {**BEFORE, "concepts": "wine"})
    pictures = before_of(host, more)
    assert len(pictures) == 2  # without wine, yet with what is enforced
    assert all(same(picture, finished(image)) for picture, image in zip(pictures, enforced, strict=True))


def test_nothing_beside_the_images_within_a_script(host):  # noqa: F811
    inner = {}

    def selected(p):
        inner["p"], inner["done"] = p, host.processing.process_images_inner(p)
        return inner["done"]

    p = Processing(host, [{**ON, **BEFORE, **ATTENTION}])
    p.scripts.selected = selected
    runner = importlib.import_module("modules.scripts").ScriptRunner
    runner.run(p.scripts, p)
    assert len(inner["done"].images) == 2
    assert any("not within scripts" in text for text in inner["p"].comments)


def test_nested_generations_show_nothing(host):  # noqa: F811
    found = []

    def detail(p):
        if not found:
            found.append(None)
            inner = Processing(host, [], scripts=Runner())
            found[0] = host.processing.process_images_inner(inner)

    _, done = run(host, BEFORE, after_image=detail)
    assert len(found[0].images) == 2
    assert len(done.images) == 2 + 2 + 1


# -- composition ------------------------------------------------


def test_kept_composition_repeats_and_differs(host):  # noqa: F811
    erased, plain = latents(run(host, {})[1]), torch.stack(without(host))
    kept = latents(run(host, KEEP)[1])
    assert torch.equal(kept, latents(run(host, KEEP)[1]))
    assert not torch.equal(kept, erased)
    assert not torch.equal(kept, plain)
    none = latents(run(host, {**KEEP, "composition_cross": 0.0, "composition_self": 0.0})[1])
    assert torch.equal(none, erased)
    zero = latents(run(host, {**KEEP, "scale": 0.0})[1])
    assert torch.equal(zero, plain)


PATTERNS = {
    "split": Sampling(split=(2, 2)),
    "one by one": Sampling(split=(1, 1, 1, 1)),
    "AND": Sampling(parts=((1.0, 0.5), (1.0, 2.0))),
    "no unconditional rows": Sampling(skip_uncond=frozenset({0})),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_kept_composition_in_every_way_of_calling(host, pattern):  # noqa: F811
    kept = run(host, KEEP, sampling=PATTERNS[pattern])[1]
    assert torch.equal(latents(kept), latents(run(host, KEEP, BEFORE, sampling=PATTERNS[pattern])[1]))
    assert not torch.equal(latents(kept), latents(run(host, {}, sampling=PATTERNS[pattern])[1]))
    assert host.errors == []


def test_split_calls_keep_what_joined_ones_keep(host):  # noqa: F811
    joined = latents(run(host, KEEP)[1])
    split = latents(run(host, KEEP, sampling=Sampling(split=(1, 1, 1, 1)))[1])
    assert torch.allclose(joined, split, atol=1e-5)


@pytest.mark.parametrize("passes", ["both", "first only", "second only"])
def test_kept_composition_with_hires(host, passes):  # noqa: F811
    options = {**KEEP, "hires": passes}
    kept = latents(run(host, options, enable_hr=True)[1])
    assert torch.equal(kept, latents(run(host, options, enable_hr=True)[1]))
    assert not torch.equal(kept, latents(run(host, {"hires": passes}, enable_hr=True)[1]))


def test_second_batch_keeps_its_own(host):  # noqa: F811
    two = run(host, KEEP, n_iter=2)[1].images
    assert not torch.equal(two[2], two[0])
    p = Processing(host, [{**ON, **KEEP}])
    p.all_seeds = [2, 3]
    alone = host.processing.process_images_inner(p)
    assert all(torch.equal(one, other) for one, other in zip(alone.images, two[2:], strict=True))


def test_a_sampler_that_chooses_its_own_steps(host, monkeypatch):  # noqa: F811
    """One that takes a step more the second time, as DPM adaptive may."""
    passes = iter([2, 3])
    inner = Processing.one_pass

    def one_pass(p, x):
        p.sampling.steps = next(passes)
        return inner(p, x)

    monkeypatch.setattr(Processing, "one_pass", one_pass)
    with pytest.raises(ErasureError, match="adaptive"):
        run(host, KEEP)


def test_twin_leaves_the_job_as_it_was(host):  # noqa: F811
    saved_before = []
    p, _ = run(host, BEFORE, before_sampling=lambda p: saved_before.append(p.do_not_save_samples))
    assert saved_before == [True, False]
    assert p.do_not_save_samples is False
    assert "sample" not in vars(p)


def test_pictures_that_fail_leave_the_images(host, monkeypatch):  # noqa: F811
    gallery = importlib.import_module("lib_gie.webui.gallery")

    def fail(*args, **kwargs):
        raise RuntimeError("no room")

    monkeypatch.setattr(gallery.Gallery, "append", fail)
    _, done = run(host, BEFORE)
    assert len(done.images) == 2
    assert "no room" in host.reported[0]


# -- read-out ------------------------------------------------


def test_read_out(host):  # noqa: F811
    readout = importlib.import_module("lib_gie.webui.readout")
    host.shared.cmd_opts.gie_enforce = "bomb"
    p, done = run(host, {"concepts": "knife, wine:0.5"}, n_iter=2)
    told = done.extra_generation_params[readout.KEY]
    assert sorted(told) == ["0", "1", "2", "3"]
    first = told["0"]
    assert [entry["concept"] for entry in first] == ["bomb", "knife", "wine"]
    assert [entry["always"] for entry in first] == [True, False, False]
    assert [entry["scale"] for entry in first][1:] == [-3.0, -1.5]
    assert all(0 < entry["present"] <= 1 for entry in first)
    assert all(readout.KEY not in text for text in done.infotexts)
    page = readout.as_html(json.dumps({"extra_generation_params": {readout.KEY: told}, "all_seeds": p.all_seeds}))
    assert page.count("<tr>") == 1 + 4 * 3
    assert "bomb (always)" in page
    assert "-1.50" in page


@pytest.mark.parametrize("told", [None, "", "no JSON", "[]", "{}", '{"extra_generation_params": {}}'])
def test_no_read_out_of_something_else(host, told):  # noqa: F811
    assert importlib.import_module("lib_gie.webui.readout").as_html(told) == ""


def test_read_out_is_escaped(host):  # noqa: F811
    readout = importlib.import_module("lib_gie.webui.readout")
    entry = {"concept": "<b>x</b>", "scale": -1, "by": "<i>", "present": 0.5, "always": False}
    told = json.dumps({"extra_generation_params": {readout.KEY: {"0": [entry]}}})
    assert "<b>" not in readout.as_html(told)


def test_no_read_out_without_erasure(host):  # noqa: F811
    _, done = run(host)
    assert done.extra_generation_params == {}


# -- X/Y/Z plot ------------------------------------------------


def test_axes(host, monkeypatch):  # noqa: F811
    scripts = importlib.import_module("modules.scripts")
    plot = SimpleNamespace(__file__="xyz_grid.py", axis_options=[])
    plot.AxisOption = lambda label, kind, apply, choices=None: SimpleNamespace(
        label=label, type=kind, apply=apply, choices=choices
    )
    monkeypatch.setitem(sys.modules, "lib_gie.webui.page", SimpleNamespace(adapter_names=list))  # needs gradio
    monkeypatch.setattr(scripts, "scripts_data", [SimpleNamespace(module=plot)], raising=False)
    axes = importlib.import_module("lib_gie.webui.axes")
    axes.register()
    axes.register()
    found = {axis.label: axis for axis in plot.axis_options}
    assert len(found) == len(plot.axis_options) == 11
    keep = found["[GIE] Keep composition"]
    assert keep.choices() == ["True", "False"]
    plain, kept = latents(run(host, {})[1]), latents(run(host, KEEP)[1])
    for text, expected in (("True", kept), ("false", plain)):
        p = Processing(host, [dict(ON)])
        keep.apply(p, text, None)
        assert torch.equal(latents(host.processing.process_images_inner(p)), expected)
    p = Processing(host, [dict(ON)])
    keep.apply(p, "maybe", None)
    with pytest.raises(OptionError, match="keep_composition is 'maybe'"):
        host.processing.process_images_inner(p)
