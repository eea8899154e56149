"""With other extensions: each part is skipped where that extension is not installed in the WebUI.

For each: off, the image is that of the other extension alone; at scale 0, too; on, it differs from that and repeats.
With GIE_WEBUI_STOCK_URL, off is also compared with a WebUI that has the other extensions but not this one.
"""

from __future__ import annotations

import itertools

import not_run
import numpy as np
import pytest
from client import DETECTOR, SCALE, RequestFailedError
from test_enforced_quality import IMAGES, PROMPT, left
from test_matrix import OFF, ON, ZERO, _drawn, settings

KNIFE = {"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}
BEFORE, KEEP, SEPARATE = {"show_before": True}, {"keep_composition": True}, {"concept_pass": "separate"}
LONG = ", ".join(["a fish"] * 40)
LARGE = {"width": 192, "height": 192, "steps": 3}  # four tiles: one is left alone
REGIONS, DREAMS = {"prompt": "a cat BREAK a knife"}, {"prompt": "a {cat|dog|fish} and a knife", "n_iter": 2}


def arguments(webui, name: str, **values) -> dict:
    """What a script is given: its defaults but for ``values`` by position (``_0``), under its full name."""
    found = [s for s in webui.call("script-info") if s["name"].startswith(name) and s["is_alwayson"]]
    if not found:
        pytest.skip(not_run.extension(name))
    info = next(script for script in found if not script["is_img2img"])
    given = [values.get(f"_{number}", arg["value"]) for number, arg in enumerate(info["args"])]
    return {info["name"]: {"args": given}}


def regional(webui, **values):
    return arguments(webui, "regional prompter", **{"_0": True, "_12": ["none"], **values})


def tiled(webui, **values):
    return arguments(webui, "tiled diffusion", **{"_0": True, "_6": 16, "_7": 16, "_8": 4, "_9": 2, **values})


def demofusion(webui):
    return arguments(webui, "demofusion", _0=True, _3=16, _4=8, _13=False)


def negpip(webui):
    return arguments(webui, "negpip", _0=True)


def dynamic(webui, **values):
    return arguments(webui, "dynamic prompts", **values)


def controlnet(webui, module: str = "reference_only"):
    arguments(webui, "controlnet")
    unit = {"enabled": True, "module": module, "model": "None", "image": _drawn(), "weight": 1, "processor_res": 64}
    return {"controlnet": {"args": [unit]}}


def neutral(webui, **values):
    return arguments(webui, "neutral prompt", **values)


def adetailer(webui, prompt: str = "a dog and a knife"):
    arguments(webui, "adetailer")
    given = {"ad_model": DETECTOR, "ad_prompt": prompt, "ad_denoising_strength": 0.9, "ad_mask_k": 1}
    return {"adetailer": {"args": [True, False, {**given, "ad_inpaint_only_masked": False}]}}


CASES = {
    "NegPiP": (negpip, {"prompt": "a cat and a knife (dog:-1)"}),
    "NegPiP, batch": (negpip, {"prompt": "a cat and a knife (dog:-1)", "batch_size": 2}),
    "NegPiP, two lengths": (negpip, {"prompt": "a cat and a knife (dog:-1)", "negative_prompt": LONG}),
    "regions": (regional, REGIONS),
    "regions, batch": (regional, {**REGIONS, "batch_size": 2}),
    "regions, halves": (regional, {**REGIONS, "negative_prompt": LONG}),
    "regions, Latent": (lambda webui: regional(webui, _11="Latent"), REGIONS),
    "regions, Prompt": (
        lambda webui: regional(webui, _2="Prompt"),
        {"prompt": "a cat and a knife BREAK a knife, knife"},
    ),
    "MultiDiffusion": (tiled, LARGE),
    "MultiDiffusion, two lengths": (tiled, {**LARGE, "negative_prompt": LONG}),
    "Mixture of Diffusers": (lambda webui: tiled(webui, _1="Mixture of Diffusers", _9=4), LARGE),
    "MultiDiffusion, regions": (
        lambda webui: tiled(webui, _18=True, _19=True, _21=True, _22=0.0, _23=0.0, _24=0.5, _25=0.5, _26="a knife"),
        LARGE,
    ),
    "DemoFusion": (demofusion, {"steps": 2}),
    "ControlNet reference_only": (controlnet, {}),
    "ControlNet reference_adain+attn": (lambda webui: controlnet(webui, "reference_adain+attn"), {}),
    "Neutral Prompt": (neutral, {"prompt": "a cat AND_PERP a knife :0.8"}),
    "Neutral Prompt, nested": (
        lambda webui: neutral(webui, _0=0.5),
        {"prompt": "a cat AND_PERP [ a dog AND a knife :-1 ] :-0.5"},
    ),
    "Dynamic Prompts": (dynamic, DREAMS),
    "ADetailer": (adetailer, {}),
}  # fmt: skip


def pictures(answer) -> list[np.ndarray]:
    return [np.asarray(image.convert("RGB")) for image in answer.images]


def same(one, other) -> bool:
    mine, its = pictures(one), pictures(other)
    return len(mine) == len(its) and all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))


def ask(webui, case: str, args):
    make, options = CASES[case]
    return webui.txt2img(args=args, scripts=make(webui), **options)


@pytest.mark.parametrize("case", CASES)
def test_both_on(webui, case):
    off, zero, on, again = (ask(webui, case, args) for args in (OFF, ZERO, ON, ON))
    assert same(zero, off)
    assert same(again, on)
    assert not np.array_equal(pictures(on)[0], pictures(off)[0])
    assert "GIE concepts: knife" in on.infotexts[0]
    assert "GIE" not in off.infotexts[0]


@pytest.mark.parametrize("case", CASES)
def test_off_is_the_other_extension_alone(webui, stock, case):
    assert same(ask(webui, case, OFF), ask(stock, case, None))


NOT_SHOWN = {"DemoFusion"}
"""It samples in its own way: the images without erasure are not shown."""


@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_SHOWN])
def test_what_it_would_have_been(webui, case):
    off, on, shown = ask(webui, case, OFF), ask(webui, case, ON), ask(webui, case, [{**KNIFE, **BEFORE}])
    assert np.array_equal(pictures(shown)[0], pictures(on)[0])
    assert any(np.array_equal(picture, pictures(off)[0]) for picture in pictures(shown)[1:])


REFUSED = {
    "NegPiP": "do not keep the composition", "NegPiP, batch": "do not keep the composition",
    "regions, halves": "do not keep the composition", "regions, Prompt": "do not keep the composition",
    "ControlNet reference_only": "neither keep the composition",
    "ControlNet reference_adain+attn": "neither keep the composition",
}  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CASES if case != "DemoFusion"])
def test_kept_composition(webui, case):
    """It repeats and is another image, or the request ends with an error."""
    args = [{**KNIFE, **KEEP}]
    if case in REFUSED:
        with pytest.raises(RequestFailedError, match=REFUSED[case]):
            ask(webui, case, args)
        return
    kept, on, off = ask(webui, case, args), ask(webui, case, ON), ask(webui, case, OFF)
    assert same(ask(webui, case, args), kept)
    assert not np.array_equal(pictures(kept)[0], pictures(on)[0])
    assert not np.array_equal(pictures(kept)[0], pictures(off)[0])


@pytest.mark.parametrize("case", ["regions, Prompt", "ControlNet reference_only"])
def test_a_concept_pass_of_its_own_is_refused(webui, case):
    with pytest.raises(RequestFailedError, match="set the concept pass to fused"):
        ask(webui, case, [{**KNIFE, **SEPARATE}])


def test_attention_of_tiles_is_not_shown(webui):
    with pytest.raises(RequestFailedError, match="untick Show attention"):
        ask(webui, "MultiDiffusion", [{**KNIFE, "show_attention": True}])


def test_adetailer_erases_whether_it_passes_our_script_on_or_not(webui):
    """Its inner generation asks for what the outer one asks for."""
    expected = ask(webui, "ADetailer", ON)
    assert expected != webui.txt2img(args=ON)
    names = webui.call("options").get("ad_script_names") or "dynamic_prompting,negpip"
    try:
        webui.call("options", {"ad_script_names": f"{names},growth_inhibitors"})
        assert ask(webui, "ADetailer", ON) == expected
    finally:
        webui.call("options", {"ad_script_names": names})


@pytest.mark.parametrize("args", [OFF, ON])
def test_dynamic_prompts_images_are_those_of_their_own_prompts(webui, args):
    answer = ask(webui, "Dynamic Prompts", args)
    prompts = [infotext.splitlines()[0] for infotext in answer.infotexts]
    assert not any("{" in prompt for prompt in prompts)
    for number, (prompt, image) in enumerate(zip(prompts, pictures(answer), strict=True)):
        assert np.array_equal(pictures(webui.txt2img(prompt=prompt, args=args, seed=5 + number))[0], image)


def without_the_other(webui, case: str):
    """The same request, switched off as the extension alone would be; most only need to be left out."""
    _, options = CASES[case]
    if case.startswith("Neutral"):
        return webui.txt2img(args=OFF, **options, **settings(neutral_prompt_enabled=False))
    scripts = dynamic(webui, _0=False) if case.startswith("Dynamic") else None
    return webui.txt2img(args=OFF, scripts=scripts, **options)


@pytest.mark.parametrize("case", CASES)
def test_the_other_extension_does_something(webui, case):
    """Else nothing above would say anything."""
    assert not np.array_equal(pictures(ask(webui, case, OFF))[0], pictures(without_the_other(webui, case))[0])


BROUGHT_IN = {
    "ADetailer": (lambda webui: adetailer(webui, PROMPT), "a cat on a blue background"),
    "ControlNet reference_only": (controlnet, PROMPT),
    "ControlNet reference_adain+attn": (lambda webui: controlnet(webui, "reference_adain+attn"), PROMPT),
    "Dynamic Prompts": (dynamic, "{a knife|a knife} on a blue background"),
    "Neutral Prompt": (neutral, f"a blue background AND_SALT {PROMPT} :2"),
    "NegPiP": (negpip, f"{PROMPT} (a cat:-1)"),
}
"""An extension and a prompt with which it draws a knife."""


MANY, ALLOWED_OF_MANY = (100, 200, 300, 400), 8
"""Seeds of batches of 16 images, and the images of all of them that may show a knife: twice what the scale that is
enforced leaves of the plain prompt."""


NUMBERS = itertools.count()


def left_of_many(webui, prompt: str, scripts=None) -> int:
    """Images of 64 that show a knife; ``pytest -s`` prints it."""
    count = 0
    for seed in MANY:
        # Neutral Prompt knows the prompts that were read last, and the WebUI reads none again that it has kept
        webui.txt2img(f"a dog, {next(NUMBERS)}", steps=1)
        count += left(webui, prompt, scripts=scripts, seed=seed)
    print(f"{prompt!r}: a knife in {count} of {len(MANY) * IMAGES} images")
    return count


def test_an_enforced_concept_in_a_plain_prompt(enforced):
    assert left_of_many(enforced, PROMPT) <= ALLOWED_OF_MANY // 2


@pytest.mark.parametrize("case", BROUGHT_IN)
def test_an_enforced_concept_that_another_extension_brings_in(webui, enforced, case):
    make, prompt = BROUGHT_IN[case]
    assert left(webui, prompt, args=[False], scripts=make(webui)) > IMAGES // 2
    assert left_of_many(enforced, prompt, make(enforced)) <= ALLOWED_OF_MANY
