"""What is shown of an erasure, and the kept composition, in each way of generating of ``test_matrix.py``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from client import SCALE, Answer, RequestFailedError
from PIL import Image
from test_matrix import IMG2IMG, OFF, ON, ROWS, STRONGER, _ask, _mask, scales, settings

KNIFE = {"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}
ADAPTIVE = "sampler DPM adaptive"
BEFORE, ATTENTION, KEEP = {"show_before": True}, {"show_attention": True}, {"keep_composition": True}
NO_SHARES = {"composition_cross": 0, "composition_self": 0}


def asked(*more: dict) -> list[dict]:
    return [{key: value for part in (KNIFE, *more) for key, value in part.items()}]


def results(answer: Answer, count: int) -> np.ndarray:
    """uint8 [count, H, W, 3] of the images themselves."""
    return np.stack([np.asarray(image.convert("RGB")) for image in answer.images[:count]])


def before(answer: Answer, count: int) -> np.ndarray:
    """uint8 [count, H, W, 3] of the images without erasure, which alone know of none."""
    found = [k for k, text in enumerate(answer.infotexts[: len(answer.images)]) if "GIE concepts" not in text]
    assert len(found) == count
    return np.stack([np.asarray(answer.images[k].convert("RGB")) for k in found])


@pytest.mark.parametrize("name", ROWS)
def test_what_it_would_have_been(webui, name):
    """It equals the image of the extension switched off, and changes nothing in the result."""
    off, on = _ask(webui, ROWS[name], OFF), _ask(webui, ROWS[name], ON)
    shown, count = _ask(webui, ROWS[name], asked(BEFORE)), len(on.images)
    assert np.array_equal(results(shown, count), on.pixels)
    assert np.array_equal(before(shown, count), off.pixels)
    assert len(shown.images) == 2 * count + 1
    assert scales(shown, count) == pytest.approx([SCALE * STRONGER.get(name, 1.0)] * count, rel=0.05)


@pytest.mark.parametrize("name", [name for name in ROWS if name != ADAPTIVE])
def test_kept_composition(webui, name):
    """It repeats, also beside the image without erasure; without shares it is plain erasure, to the bit."""
    row = ROWS[name]
    off, on, kept = _ask(webui, row, OFF), _ask(webui, row, ON), _ask(webui, row, asked(KEEP))
    assert not np.array_equal(kept.pixels, on.pixels)
    assert not np.array_equal(kept.pixels, off.pixels)
    assert all("GIE keep composition: True" in text for text in kept.infotexts)
    both = _ask(webui, row, asked(KEEP, BEFORE))
    assert np.array_equal(results(both, len(kept.images)), kept.pixels)
    assert np.array_equal(before(both, len(kept.images)), off.pixels)
    assert _ask(webui, row, asked(KEEP, NO_SHARES)) == on


def test_a_sampler_that_chooses_its_steps_is_refused(webui):
    expected = webui.txt2img(args=ON)
    with pytest.raises(RequestFailedError, match="composition of the image without erasure cannot be kept"):
        _ask(webui, ROWS[ADAPTIVE], asked(KEEP))
    assert webui.txt2img(args=ON) == expected


def test_attention(webui):
    """Per image and concept one over all steps and one step by step; the results stay as they are."""
    args = [{**KNIFE, "concepts": "knife, cat"}]
    plain = webui.txt2img(args=args, batch_size=2, n_iter=2)
    shown = webui.txt2img(args=[{**args[0], **ATTENTION}], batch_size=2, n_iter=2)
    assert np.array_equal(results(shown, 4), plain.pixels)
    assert len(shown.images) == 4 + 4 * 2 * 2 + 1
    assert all("GIE concepts" in text for text in shown.infotexts)


def test_an_infotext_brings_back_what_was_shown(webui):
    first = webui.txt2img(args=asked(KEEP, BEFORE, ATTENTION))
    again = webui.from_infotext(first.infotexts[0])
    assert len(again.images) == len(first.images) == 1 + 1 + 2 + 1
    for one, other in zip(first.images, again.images, strict=True):
        assert one.size == other.size
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_the_infotext_of_the_image_without_erasure_makes_it(webui):
    shown = webui.txt2img(args=asked(BEFORE))
    plain = next(text for text in shown.infotexts if "GIE" not in text)
    assert np.array_equal(webui.from_infotext(plain).pixels, before(shown, 1))


def test_the_read_out_is_in_the_answer(webui):
    body = {
        "prompt": "a cat and a knife", "steps": 8, "width": 64, "height": 64, "seed": 5, "batch_size": 2,
        "alwayson_scripts": {"Growth Inhibitors": {"args": asked()}},
    }  # fmt: skip
    found = json.loads(webui.call("txt2img", body)["info"])["extra_generation_params"]["GIE read-out"]
    assert [entry["concept"] for entries in found.values() for entry in entries] == ["knife", "knife"]
    assert all(entry["scale"] == SCALE for entries in found.values() for entry in entries)
    assert all(0 < entry["present"] <= 1 for entries in found.values() for entry in entries)


# -- what an admin always erases ------------------------------------------------


def test_nothing_without_the_enforced_erasure_is_shown(enforced):
    """Of the user's own concept everything is, but always without the enforced one."""
    plain = enforced.txt2img()
    cat = {"concepts": "cat", "adapter": "Fixed scale", "scale": SCALE}
    shown = enforced.txt2img(args=[{**cat, **BEFORE, **ATTENTION}])
    assert np.array_equal(before(shown, 1), plain.pixels)
    assert not np.array_equal(results(shown, 1), plain.pixels)
    assert len(shown.images) == 1 + 1 + 2 + 1
    assert all("GIE enforced: knife" in text for text in shown.infotexts)


def test_a_composition_of_an_enforced_image_is_kept(enforced):
    cat = {"concepts": "cat", "adapter": "Fixed scale", "scale": SCALE}
    plain, kept = enforced.txt2img(), enforced.txt2img(args=[{**cat, **KEEP}])
    assert kept != enforced.txt2img(args=[cat])
    assert kept == enforced.txt2img(args=[{**cat, **KEEP}])
    # without a scale the erased image is the same as the one without erasure, and that one is erased from as well
    assert enforced.txt2img(args=[{**cat, **KEEP, "strength": 0}]) == plain


@pytest.mark.parametrize("wish", [BEFORE, ATTENTION])
def test_who_erases_nothing_is_shown_nothing(enforced, wish):
    for args in ([{"enabled": False, "concepts": "knife", **wish}], None):
        assert len(enforced.txt2img(args=args).images) == 1


# -- what other extensions do to finished images ------------------------------------------------

CENSOR, PREVIEWS = "GIE test censor", "GIE test previews"
HOOKS = (
    "sample", "post_sample", "postprocess_batch", "postprocess_batch_list", "postprocess_image",
    "postprocess_image_after_composite", "postprocess", "postprocess, painting",
)  # fmt: skip
MASKED = {**IMG2IMG, "mask": _mask(), "inpainting_fill": 1}
SOFT = {"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}


def censored(webui, where: str, *more: dict, **options) -> Answer:
    return webui.txt2img(args=asked(*more), scripts={CENSOR: {"args": [where]}}, **options)


def is_black(image) -> bool:
    return not np.asarray(image.convert("RGB")).any()


def without_erasure(answer: Answer) -> list:
    """The images without erasure in an answer."""
    texts = answer.infotexts[: len(answer.images)]
    return [image for image, text in zip(answer.images, texts, strict=True) if "GIE concepts" not in text]


def attention_of(answer: Answer, first: int) -> list[np.ndarray]:
    """The overlays among the images from number ``first`` on, without their legends."""
    found = [np.asarray(image) for image in answer.images[first:] if image.size == (320, 372)]
    return [pixels[:320] for pixels in found]


@pytest.mark.parametrize("where", HOOKS)
def test_nothing_gets_round_a_censor(webui, where):
    """Every picture that is shown is black, or was made of black ones."""
    seen = censored(webui, where, BEFORE, ATTENTION, batch_size=2, n_iter=2)
    assert all(map(is_black, seen.images[:4]))
    unerased = without_erasure(seen)
    assert all(map(is_black, unerased))
    assert len(unerased) == (0 if where == "sample" else 4)
    overlays = attention_of(seen, 4)
    assert all(not pixels[..., 2].any() for pixels in overlays)  # red on black
    assert (len(overlays) == 0) == where.startswith("postprocess,") or where == "postprocess" or len(overlays) == 4
    if where.startswith("postprocess") and "_" not in where:
        assert all(map(is_black, seen.images))


def test_a_censor_that_paints_an_overlay(webui):
    seen = censored(webui, "postprocess_maskoverlay", BEFORE, **MASKED)
    assert is_black(seen.images[0])
    assert [is_black(image) for image in without_erasure(seen)] == [True]


def test_a_censor_that_paints_the_results_alone(webui):
    """What is made of them is not shown: the censor has seen the images themselves and no more."""
    seen = censored(webui, "postprocess, only results", BEFORE, ATTENTION)
    assert is_black(seen.images[0])
    assert len(seen.images) == 2  # the image without erasure was offered to it
    assert attention_of(seen, 1) == []


@pytest.mark.parametrize(("where", "left"), [("postprocess, taking away", 0), ("postprocess, failing", 2)])
def test_a_censor_that_takes_away_or_fails(webui, where, left):
    seen = censored(webui, where, BEFORE, ATTENTION, n_iter=2)
    assert len(seen.images) == left
    assert without_erasure(seen) == []


def test_a_script_that_drops_an_image(webui):
    """It is unknown then which image without erasure belongs to which result."""
    seen = censored(webui, "drops an image", BEFORE, ATTENTION, batch_size=2)
    assert len(seen.images) == 1


def test_a_censor_of_saved_images(webui):
    """One that changes them before they are saved has these as well; one that goes over files would not."""
    plain = webui.txt2img(args=asked(BEFORE, ATTENTION), save_images=True)
    seen = censored(webui, "before_image_saved", BEFORE, ATTENTION, save_images=True)
    assert len(seen.images) == len(plain.images) - 1  # without the sheet, made of what has been painted over since
    assert all(map(is_black, seen.images))
    after = censored(webui, "image_saved", BEFORE, ATTENTION, save_images=True)
    assert len(after.images) == 1


def test_saved_pictures_have_been_seen(webui):
    """Nothing is saved that a censor has not gone over: files of the request, all of them black."""
    known = saved(webui)
    save = settings(gie_save_before=True, gie_save_attention=True)
    censored(webui, "postprocess_image", BEFORE, save_images=True, **save)
    censored(webui, "postprocess, painting", BEFORE, save_images=True, **save)
    unerased = [file for file in saved(webui) - known if "without-erasure" in file.name]
    assert len(unerased) == 2
    assert all(is_black(Image.open(file)) for file in unerased)


AS_WITHOUT_US = {
    "soft inpainting": ({**MASKED}, SOFT),
    "soft inpainting, two images": ({**MASKED, "batch_size": 2}, SOFT),
    "soft inpainting, only masked": ({**MASKED, "inpaint_full_res": True, "inpaint_full_res_padding": 8}, SOFT),
    "colour correction": ({**IMG2IMG, **settings(img2img_color_correction=True)}, {}),
    "a nested generation": ({"n_iter": 2}, {"GIE test routes": {"args": ["nested"]}}),
    "a nested generation by a function that another extension keeps": (
        {"n_iter": 2},
        {"GIE test routes": {"args": ["kept"]}},
    ),
    "a nested generation past what is wrapped": ({"n_iter": 2}, {"GIE test routes": {"args": ["past"]}}),
    "a nested generation, two images": ({"batch_size": 2}, {"GIE test routes": {"args": ["nested"]}}),
}


@pytest.mark.parametrize("name", AS_WITHOUT_US)
def test_what_it_would_have_been_with_other_scripts(webui, name):
    """As without us, bit for bit; and the results are those without it."""
    options, scripts = AS_WITHOUT_US[name]
    webui.txt2img(args=OFF, scripts=scripts, **options)  # img2img draws from what the request before has left
    off = webui.txt2img(args=OFF, scripts=scripts, **options)
    on = webui.txt2img(args=asked(), scripts=scripts, **options)
    shown, count = webui.txt2img(args=asked(BEFORE), scripts=scripts, **options), len(on.images)
    assert not np.array_equal(on.pixels, off.pixels)
    assert np.array_equal(results(shown, count), on.pixels)
    assert np.array_equal(before(shown, count), off.pixels)
    assert [text for text in shown.infotexts if "GIE" not in text] == off.infotexts


# -- stopped ------------------------------------------------

STOP = "GIE test stop"
STOPS = {"skip": 2, "interrupt": 1}  # finished batches of three, where the second is stopped


def stopped(webui, how: str, batch: int, call: int, *more: dict, **options) -> Answer:
    """Three batches, stopped in this batch before that step, counted over both samplings of the batch."""
    return webui.txt2img(args=asked(*more), scripts={STOP: {"args": [how, batch, call]}}, n_iter=3, **options)


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("wish", [BEFORE, KEEP, {**BEFORE, **KEEP, **ATTENTION}], ids=["before", "keep", "all"])
@pytest.mark.parametrize("call", [0, 3, 8])  # at its start, in its middle, and before the first erased step
def test_stopped_while_the_image_without_erasure_is_made(webui, how, wish, call):
    """The finished batches come back as they are; the stopped one is left out, in images, infotexts and files."""
    whole, count = webui.txt2img(args=asked(wish), n_iter=3), STOPS[how]
    known = saved(webui)
    left = stopped(webui, how, 1, call, wish, save_images=True, **settings(save_incomplete_images=True))
    kept = [0, 2][:count]
    assert np.array_equal(results(left, count), results(whole, 3)[kept])
    assert [seed_of(text) for text in left.infotexts[:count]] == [5 + number for number in kept]
    if "show_before" in wish:
        assert np.array_equal(before(left, count), before(whole, 3)[kept])
    else:
        assert len(left.images) == count
    assert len(left.infotexts) == len(left.images)
    assert len(saved(webui) - known) == count


def saved(webui) -> set:
    """The files of images, without grids."""
    return set(webui.folder.rglob("outputs/*-images/**/*.png"))


def seed_of(infotext: str) -> int:
    return int(infotext.split("Seed: ")[1].split(",")[0])


@pytest.mark.parametrize("options", [{}, settings(grid_only_if_multiple=False)], ids=["", "grid of one"])
@pytest.mark.parametrize("wish", [{}, BEFORE], ids=["plain", "before"])
def test_nothing_is_left_where_the_first_batch_is_interrupted_at_once(webui, options, wish):
    assert stopped(webui, "interrupt", 0, 0, wish, **options).images == []


def test_what_was_erased_from_comes_back_as_it_is(webui):
    """Interrupted after three erased steps: an image in the making, as the WebUI shows it; none beside it."""
    off = webui.txt2img(args=OFF, scripts={STOP: {"args": ["interrupt", 0, 3]}})
    left = stopped(webui, "interrupt", 0, 8 + 3, BEFORE)
    plain = stopped(webui, "interrupt", 0, 3)
    assert len(left.images) == len(plain.images) == 1
    assert left == plain
    assert plain != off


def test_an_image_that_is_not_begun_to_be_erased_from_is_left_out(webui):
    assert stopped(webui, "interrupt", 0, 3, {"start": 0.5}).images == []
    assert len(stopped(webui, "interrupt", 0, 6, {"start": 0.5}).images) == 1


def test_the_given_picture_is_no_result(webui):
    """Interrupted img2img returns the given picture where no step was made."""
    assert stopped(webui, "interrupt", 0, 0, **IMG2IMG).images == []


def test_stopped_after_the_current_batch(webui):
    whole = webui.txt2img(args=asked(BEFORE), n_iter=3)
    left = stopped(webui, "stop_generating", 0, 3, BEFORE)
    assert np.array_equal(results(left, 1), results(whole, 1))
    assert np.array_equal(before(left, 1), before(whole, 3)[:1])


def test_a_stopped_cell_of_a_plot_is_empty(webui):
    """The test extension stops each of its two cells; without legend, the cells beside the grid."""
    axes, switches = [1, "5,6", [], 0, "", [], 0, "", []], [False, True, False, False, False, False, False, 0, False]
    body = {"script_name": "X/Y/Z plot", "script_args": [*axes, *switches]}
    seen = webui.txt2img(args=asked(KEEP), scripts={STOP: {"args": ["skip", 0, 3]}}, **body)
    assert len(seen.images) == 2
    assert all(map(is_black, seen.images))


def test_stopped_where_it_is_always_erased(enforced):
    cat = {"concepts": "cat", "adapter": "Fixed scale", "scale": SCALE, **BEFORE, **KEEP}
    whole = enforced.txt2img(args=[cat], n_iter=3)
    left = enforced.txt2img(args=[cat], n_iter=3, scripts={STOP: {"args": ["skip", 1, 3]}})
    assert np.array_equal(results(left, 2), results(whole, 3)[[0, 2]])
    assert np.array_equal(before(left, 2), before(whole, 3)[[0, 2]])


# -- live previews ------------------------------------------------


def previews(webui, **options) -> str:
    answer = webui.txt2img(scripts={PREVIEWS: {"args": [True]}}, negative_prompt="a knife", **options)
    return next(part for part in answer.infotexts[0].split(", ") if part.startswith("Previews"))


def test_live_previews_of_the_negative_prompt(webui):
    """The option is set while the request runs, just before the WebUI asks for it."""
    assert previews(webui, args=OFF) == "Previews: negative 8 prompt 0 none 0"
    assert previews(webui, args=asked()) == "Previews: negative 0 prompt 8 none 0"


def test_live_previews_of_the_image_without_erasure(webui):
    """Only where that is asked for."""
    assert previews(webui, args=asked(KEEP)) == "Previews: negative 0 prompt 8 none 8"
    assert previews(webui, args=asked(BEFORE)) == "Previews: negative 0 prompt 16 none 0"


def test_live_previews_where_it_is_always_erased(enforced):
    assert previews(enforced, args=None) == "Previews: negative 0 prompt 8 none 0"
