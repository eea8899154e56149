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
from lib_gie.hosts.webui.request.infotext import settings_line
from lib_gie.hosts.webui.request.parsing import read_request

ON = {"concepts": "knife", "adapter": "Fixed scale", "scale": -3.0}
BEFORE, ATTENTION, KEEP = {"show_before": True}, {"show_attention": True}, {"keep_composition": True}


def run(host, *parts, more=(), at_start=None, **options):  # noqa: F811
    """One job with these arguments, its always-on script in place; ``more``: other scripts.

    ``at_start``: called with the job's object, where other scripts' ``process`` is.
    """
    arguments = [{key: value for part in (ON, *parts) for key, value in part.items()}] if parts else []
    script = importlib.import_module("lib_gie.hosts.webui.page.script").GrowthInhibitorsScript()
    script.args_from, script.args_to = 1, 1 + len(arguments)
    return host.process(arguments, scripts=Runner(script, *more), at_start=at_start, **options)


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
    guard = sys.modules["lib_gie.hosts.webui.guard"]
    script = importlib.import_module("lib_gie.hosts.webui.page.script").GrowthInhibitorsScript()
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


# -- stopped ------------------------------------------------


def stopping(host, batch, steps, how="interrupted"):  # noqa: F811
    """Stop in this batch after so many UNet calls, which both samplings of it count."""
    calls = {}

    def stop(params):
        number = params.denoiser.p.iteration
        calls[number] = calls.get(number, 0) + 1
        if (number, calls[number]) == (batch, steps):
            setattr(host.shared.state, how, True)

    return stop


@pytest.mark.parametrize(("how", "left"), [("interrupted", [0]), ("skipped", [0, 2])])
@pytest.mark.parametrize("wish", [BEFORE, KEEP, {**BEFORE, **KEEP, **ATTENTION}], ids=["before", "keep", "all"])
def test_stopped_while_the_image_without_erasure_is_made(host, how, left, wish):  # noqa: F811
    """The finished batches come back as they are; no script sees the one that is left out."""
    whole = run(host, wish, n_iter=3)[1]
    seen = []
    host.callbacks.append(stopping(host, 1, 1, how))
    script = SimpleNamespace(post_sample=lambda p, sampled: seen.append(p.iteration))
    p, done = run(host, wish, n_iter=3, more=[script])
    assert torch.equal(
        latents(done, 2 * len(left)), torch.stack([whole.images[2 * k + i] for k in left for i in (0, 1)])
    )
    assert sorted(set(seen)) == left
    assert len(done.images) == len(done.infotexts) == len(whole.images) * len(left) // 3 + (len(whole.images) % 3 != 0)
    assert any("is left out" in text for text in p.comments)
    assert p.do_not_save_grid is False
    told = done.extra_generation_params[importlib.import_module("lib_gie.hosts.webui.shown.readout").KEY]
    assert sorted(told) == [str(2 * k + i) for k in left for i in (0, 1)]


def test_stopped_after_the_image_without_erasure_and_before_a_step(host):  # noqa: F811
    """The batch before keeps what is shown beside it."""
    calls = []

    def stop(p):
        calls.append(p.iteration)
        if calls.count(1) == 2:
            host.shared.state.interrupted = True

    _, done = run(host, BEFORE, n_iter=2, before_sampling=stop)
    assert len(before_of(host, done)) == 2
    assert len(done.images) == 2 + 2 + 1


def test_nothing_is_left_and_no_grid_is_made(host):  # noqa: F811
    host.shared.opts.grid_only_if_multiple = False
    host.callbacks.append(stopping(host, 0, 1))
    p, done = run(host, BEFORE)
    assert done.images == []
    assert p.do_not_save_grid is False


def test_a_generation_without_scripts_leaves_the_batch_out_as_well(host):  # noqa: F811
    """One within another one, say, which keeps the composition."""
    inherited = importlib.import_module("lib_gie.hosts.webui.sampling.inherited")  # which the start does not load
    inherited._ambient.request = read_request([{**ON, **KEEP}])
    host.callbacks.append(stopping(host, 0, 1))
    p = Processing(host)
    p.scripts = None
    try:
        assert host.processing.process_images_inner(p).images == []
    finally:
        del inherited._ambient.request
    assert p.scripts is None


def test_a_host_whose_scripts_take_no_images_from_a_batch(host):  # noqa: F811
    """There the request ends with an error, and no half image comes out."""
    p = Processing(host, [{**ON, **KEEP}])
    p.scripts.__class__ = Runner
    host.callbacks.append(stopping(host, 0, 1))
    with pytest.raises(ErasureError, match="stopped before anything was erased"):
        host.processing.process_images_inner(p)


def test_an_image_before_its_start_is_left_out(host):  # noqa: F811
    for start, count in ((0.5, 0), (0.0, 2)):
        host.shared.state.interrupted = False
        host.callbacks.append(stopping(host, 0, 1))
        assert len(run(host, {"start": start}, sampling=Sampling(steps=4))[1].images) == count
        host.callbacks.pop()


# -- what other scripts do to finished images ------------------------------------------------


def black(image):
    return Image.new(image.mode, image.size)


def is_black(image) -> bool:
    return isinstance(image, Image.Image) and image.getbbox() is None


class Censor:
    """Paints black in one of a script's methods, or does it otherwise."""

    filename = "censor.py"

    def __init__(self, where):
        setattr(self, where, getattr(self, f"in_{where}"))

    def in_post_sample(self, p, sampled):
        sampled.samples = torch.full_like(sampled.samples, -1.0)

    def in_postprocess_batch(self, p, images, batch_number):
        images[:] = 0

    def in_postprocess_batch_list(self, p, batch, batch_number):
        batch.images = [torch.zeros_like(image) for image in batch.images]

    def in_postprocess_image(self, p, shown):
        shown.image = black(shown.image)

    in_postprocess_image_after_composite = in_postprocess_image

    def in_postprocess(self, p, processed):
        processed.images = [black(image) for image in processed.images]


HOOKS = [name[3:] for name in vars(Censor) if name.startswith("in_")]


@pytest.mark.parametrize("where", HOOKS)
def test_nothing_gets_round_a_censor(host, where):  # noqa: F811
    host.shared.opts.gie_save_before = True
    _, done = run(host, BEFORE, ATTENTION, n_iter=2, pictures=True, more=[Censor(where)])
    unerased = before_of(host, done)
    assert len(unerased) == 4
    assert all(map(is_black, [*done.images[:4], *unerased, *(one["picture"] for one in host.saved)]))
    assert len(host.saved) == 4
    attention = [image for image in done.images if image.size == (320, 372)]
    assert len(attention) == (0 if where == "postprocess" else 4)
    assert ("has changed the images" in done.comments) == (where == "postprocess")
    assert all(image.crop((0, 0, 320, 320)).getchannel("B").getbbox() is None for image in attention)  # red on black


@pytest.mark.parametrize("where", ["postprocess_image", "postprocess"])
def test_a_script_that_fails_on_them(host, where):  # noqa: F811
    """The host goes on; the results are its business, ours is not shown."""
    script = SimpleNamespace(filename="censor.py")
    calls = []

    def fail(p, *args, **kwargs):
        calls.append(p)
        if len(calls) > 2 or where == "postprocess":
            raise IndexError("no such number")

    setattr(script, where, fail)
    _, done = run(host, BEFORE, pictures=True, more=[script])
    assert len(done.images) == 2
    assert "no such number" in done.comments


def test_a_script_that_goes_over_images_in_an_unknown_way(host, monkeypatch):  # noqa: F811
    scripts = importlib.import_module("modules.scripts")
    base = type("Script", (), {"postprocess_later": lambda self, p: None})
    script = type("Later", (base,), {"postprocess_later": lambda self, p: None, "filename": "/a/later.py"})()
    monkeypatch.setattr(scripts, "Script", base)
    _, done = run(host, BEFORE, ATTENTION, pictures=True, more=[script])
    assert before_of(host, done) == []
    assert len(done.images) == 2 + 2 * 2 + 1
    assert "later.py has its own way with finished images (postprocess_later)" in done.comments


def test_whoever_changes_the_samples_on_their_way_has_not_changed_the_others(host):  # noqa: F811
    """A censor around ``p.sample``; one that only looks there changes nothing."""
    for change, count in ((lambda x: x, 2), (lambda x: x.clone(), 2), (lambda x: x * 0, 0)):

        def wrap(p, change=change):
            inner = p.sample
            p.sample = lambda **kwargs: change(inner(**kwargs))

        _, done = run(host, BEFORE, pictures=True, at_start=wrap)
        assert len(before_of(host, done)) == count
        assert ("samples in its own way" in done.comments) == (count == 0)


def test_a_script_that_takes_an_image_away(host):  # noqa: F811
    """It is unknown then which is which."""

    def drop(p, batch, **kwargs):
        del batch.images[0]

    _, done = run(host, BEFORE, ATTENTION, pictures=True, more=[SimpleNamespace(postprocess_batch_list=drop)])
    assert len(done.images) == 1
    assert "takes some away" in done.comments


def test_scripts_are_afterwards_as_they_were(host):  # noqa: F811
    """What a script notes of the images without erasure is forgotten, and random numbers go on as without them."""
    drawn = []

    class Noting:
        seen = 0

        def postprocess_image(self, p, shown):
            self.seen += 1
            drawn.append((p.iteration, self.seen, torch.rand(()).item()))

    noting = Noting()
    torch.manual_seed(3)
    run(host, {}, n_iter=2, more=[noting])
    alone = list(drawn)
    drawn.clear()
    noting.seen = 0
    torch.manual_seed(3)
    p, _ = run(host, BEFORE, n_iter=2, more=[noting])
    assert noting.seen == 4
    assert [one for k, one in enumerate(drawn) if k % 4 < 2] == alone
    assert [value for k, (*_, value) in enumerate(drawn) if k % 4 >= 2] == [value for *_, value in alone]
    assert next(iter(p.extra_generation_params)) == "GIE concepts"


def test_a_generation_within_the_image_without_erasure_is_not_erased_from(host):  # noqa: F811
    """As ADetailer repairs it: by a generation of its own."""
    made = []

    def detail(p, shown):
        made.append(host.processing.process_images_inner(Processing(host, [dict(ON)])).images[0])

    detailer = SimpleNamespace(postprocess_image=detail)
    plain, erased = without(host)[0], run(host, {})[1].images[0]
    run(host, BEFORE, more=[detailer])
    assert [torch.equal(image, plain) for image in made] == [False, False, True, True]
    assert [torch.equal(image, erased) for image in made] == [True, True, False, False]


# -- saved images ------------------------------------------------


def saving(host, category, callback):  # noqa: F811
    callbacks = importlib.import_module("modules.script_callbacks")
    entry = SimpleNamespace(callback=callback, script="/a/watcher.py")
    callbacks.callback_map[f"callbacks_{category}"] = [entry]
    callbacks.ImageSaveParams = lambda image, p, filename, pnginfo: SimpleNamespace(image=image, filename=filename)
    callbacks.before_image_saved_callback = lambda params: entry.callback(params)


def test_what_is_not_saved_goes_to_those_who_change_images_before_they_are(host):  # noqa: F811
    def paint(params):
        params.image = black(params.image)

    saving(host, "before_image_saved", paint)
    _, done = run(host, BEFORE, ATTENTION, pictures=True)
    assert all(map(is_black, done.images[2:]))
    assert len(done.images) == 2 + 2 + 2 * 2  # without the sheet, made of what has been changed since


def test_what_is_not_saved_is_not_shown_where_somebody_goes_over_files(host):  # noqa: F811
    saving(host, "image_saved", lambda params: None)
    _, done = run(host, BEFORE, pictures=True)
    assert len(done.images) == 2
    assert "watcher.py" in done.comments
    host.shared.opts.gie_save_before = True
    _, done = run(host, BEFORE, pictures=True)
    assert len(before_of(host, done)) == len(host.saved) == 2
    host.shared.opts.samples_save = host.shared.opts.gie_save_before = False
    assert len(run(host, BEFORE, pictures=True)[1].images) == 2 + 2 + 1  # the results are not saved either


# -- a job's images ------------------------------------------------


def picture(value) -> Image.Image:
    return Image.new("RGB", (2, 2), (value, 0, 0))


def followed(count):
    """So many pictures of a job and what follows them."""
    from lib_gie.hosts.webui.shown.job_images import JobImages

    done = SimpleNamespace(images=[picture(k) for k in range(count)], infotexts=[str(k) for k in range(count)])
    return done, list(done.images), JobImages(done)


def test_pictures_are_found_again():
    done, images, job = followed(3)
    done.images = [images[0], picture(9), images[2], picture(5)]
    assert [job.is_as_it_was(image) for image in images] == [True, False, True]
    assert job.now(images[1]) is done.images[1]
    images[2].paste((7, 7, 7), (0, 0, 2, 2))
    assert not job.is_as_it_was(images[2])


@pytest.mark.parametrize("moved", [lambda images: [picture(9), *images[:2]], lambda images: images[:1]])
def test_pictures_that_cannot_be_found_again(moved):
    """What stands in their place is another's, or nothing does."""
    done, images, job = followed(3)
    done.images = moved(images)
    assert job.now(images[0]) is images[0]
    assert job.now(images[2]) is None
    assert not job.is_as_it_was(images[2])


def test_taking_pictures_away():
    done, images, job = followed(4)
    job.take_away(images[1])
    assert done.images == [images[0], images[2], images[3]]
    assert done.infotexts == ["0", "2", "3"]
    done.images[1] = replaced = picture(9)
    assert job.now(images[2]) is replaced
    job.take_away(images[2])
    assert done.images == [images[0], images[3]]


def test_the_unerased_image_leaves_the_job_as_it_was(host):  # noqa: F811
    saved_before = []
    p, _ = run(host, BEFORE, before_sampling=lambda p: saved_before.append(p.do_not_save_samples))
    assert saved_before == [True, False]
    assert p.do_not_save_samples is False
    assert "sample" not in vars(p)


def test_pictures_that_fail_leave_the_images(host, monkeypatch):  # noqa: F811
    gallery = importlib.import_module("lib_gie.hosts.webui.shown.gallery")

    def fail(*args, **kwargs):
        raise RuntimeError("no room")

    monkeypatch.setattr(gallery.Gallery, "append", fail)
    _, done = run(host, BEFORE)
    assert len(done.images) == 2
    assert "no room" in host.reported[0]


# -- read-out ------------------------------------------------


def test_read_out(host):  # noqa: F811
    readout = importlib.import_module("lib_gie.hosts.webui.shown.readout")
    host.shared.cmd_opts.gie_enforce = "bomb"
    p, done = run(host, {"concepts": "knife, wine:0.5"}, n_iter=2)
    told = done.extra_generation_params[readout.KEY]
    assert sorted(told) == ["0", "1", "2", "3"]
    first = told["0"]
    assert [entry["concept"] for entry in first] == ["bomb", "knife", "wine"]
    assert [entry["always"] for entry in first] == [True, False, False]
    assert [entry["scale"] for entry in first][1:] == [-3.0, -1.5]
    assert all(0 < entry["present"] <= 1 for entry in first[1:])
    assert first[0]["scale"] is first[0]["present"] is None  # both would say for which prompts it is weak
    assert all(readout.KEY not in text for text in done.infotexts)
    texts = [settings_line({"Seed": seed, **text}) for seed, text in zip(p.all_seeds, done.infotexts, strict=True)]
    info = {"extra_generation_params": {readout.KEY: told}, "all_seeds": p.all_seeds, "infotexts": texts}
    page = readout.as_html(json.dumps(info))
    assert page.count("<tr>") == 1 + 4 * 3
    assert "bomb (always)" in page
    assert "-1.50" in page


@pytest.mark.parametrize("told", [None, "", "no JSON", "[]", "{}", '{"extra_generation_params": {}}'])
def test_no_read_out_of_something_else(host, told):  # noqa: F811
    assert importlib.import_module("lib_gie.hosts.webui.shown.readout").as_html(told) == ""


def test_read_out_is_escaped(host):  # noqa: F811
    readout = importlib.import_module("lib_gie.hosts.webui.shown.readout")
    entry = {"concept": "<b>x</b>", "scale": -1, "by": "<i>", "present": 0.5, "always": False}
    texts = [settings_line({"Seed": 0, "GIE concepts": "<b>x</b>"})]
    told = {"extra_generation_params": {readout.KEY: {"0": [entry]}}, "all_seeds": [0], "infotexts": texts}
    assert "&lt;b&gt;" in (page := readout.as_html(json.dumps(told)))
    assert "<b>" not in page


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
    monkeypatch.setattr(scripts, "scripts_data", [SimpleNamespace(module=plot)], raising=False)
    axes = importlib.import_module("lib_gie.hosts.webui.page.axes")
    axes.add_axes()
    axes.add_axes()
    found = {axis.label: axis for axis in plot.axis_options}
    assert len(found) == len(plot.axis_options) == 12
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
