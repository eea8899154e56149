"""A WebUI that was started with --gie-enforce knife: GIE_WEBUI_ENFORCED_URL is its address."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import suppress

import not_run
import pytest
from client import SCALE, Answer, RequestFailedError
from looking import seen


@pytest.fixture(scope="module")
def erased(webui) -> Answer:
    """What a user gets who asks for it."""
    return webui.txt2img(args=[True, "knife"])


def is_locked(webui) -> bool:
    """Whether the WebUI was started with settings that nobody can change."""
    flags = webui.call("cmd-flags")
    return bool(flags.get("freeze_settings_in_sections")) or flags.get("freeze_settings") in (True, "True")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"args": [False, "knife"]},
        {"args": [True, "knife", "Fixed scale", 0, 0]},
        {"args": [True, "knife", "Fixed scale", 1, 0, 0.9, 1, "fused", "second only"]},
        {"override_settings": {"gie_enforced_concepts": "", "gie_enforced_strength": 0, "gie_enforced_scale": 0}},
        {"infotext": "a cat and a knife\nSteps: 8, Sampler: DPM++ 2M, Seed: 5, GIE concepts: dog, GIE strength: 0"},
    ],
)
def test_no_request_skips_it(enforced, erased, options):
    if is_locked(enforced) and "override_settings" in options:  # the WebUI refuses such a request itself
        with pytest.raises(RequestFailedError, match="are frozen with --freeze-settings"):
            enforced.txt2img(**options)
        return
    answer = enforced.txt2img(**options)
    assert answer == erased
    assert all("GIE enforced: knife" in text for text in answer.infotexts)


def test_options_cannot_be_set_through_the_api(enforced, erased):
    enforced.call("options", {"gie_enforced_concepts": "dog", "gie_enforced_strength": 3})
    assert enforced.txt2img() == erased
    assert enforced.call("options")["gie_enforced_concepts"] == ""


def test_img2img_hires_and_scripts(enforced, webui):
    hires = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7, "hr_upscaler": "Latent", "steps": 20}
    answer = enforced.txt2img(**hires)  # more strongly than a user's own at the second size
    assert answer not in (webui.txt2img(args=[False], **hires), webui.txt2img(args=[True, "knife"], **hires))
    assert "knife" not in seen(answer.images[0])
    assert all("GIE enforced: knife" in text for text in answer.infotexts)
    lines = [False, False, "start", "a cat and a knife"]
    answer = enforced.txt2img(script_name="prompts from file or textbox", script_args=lines)
    assert all("GIE enforced: knife" in text for text in answer.infotexts)


def test_a_users_concepts_come_on_top(enforced, erased):
    both = enforced.txt2img(args=[True, "cat", "Fixed scale", 1, SCALE])
    assert both != erased
    assert "GIE enforced: knife" in both.infotexts[0]
    assert "GIE concepts: cat" in both.infotexts[0]


def test_what_cannot_be_erased_from_is_no_image(enforced):
    with pytest.raises(RequestFailedError, match="CFG scale"):
        enforced.txt2img(cfg_scale=0.5)


def test_the_preview_of_the_negative_prompt_is_not_shown(enforced, erased):
    assert enforced.txt2img(override_settings={"live_preview_content": "Negative prompt"}) == erased


# -- whoever may open the settings page ------------------------------------------------

NOTHING = {
    "gie_enforced_concepts": "", "gie_enforced_adapter": "Automatic", "gie_enforced_strength": 1.0,
    "gie_enforced_scale": -3.0, "gie_enforced_floor": 0.0, "gie_enforced_show_scale": False,
}  # fmt: skip


def apply_settings(webui, **changes) -> str:
    """Press "Apply settings" with these values in the page's fields; what the page says then."""
    config, options = webui.get("config"), webui.call("options")
    names = {part["id"]: str(part.get("props", {}).get("elem_id") or "") for part in config["components"]}
    submit = next(number for number, name in names.items() if name == "settings_submit")
    pressed = [
        (number, handler)
        for number, handler in enumerate(config["dependencies"])
        if any((target if isinstance(target, int) else target[0]) == submit for target in handler["targets"])
    ]
    number, handler = next(found for found in pressed if len(found[1]["inputs"]) > 100)
    values = []
    for part in handler["inputs"]:
        option = names[part].removeprefix("setting_")
        values.append(changes.get(option, options.get(option)))
    body = json.dumps({"fn_index": number, "data": values, "session_hash": "settings"}).encode()
    request = urllib.request.Request(f"{webui.url}/run/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


@pytest.fixture
def settings(enforced):
    """Settings can be applied, and are put back."""
    if is_locked(enforced):
        pytest.skip(not_run.LOCKED_WEBUI)
    yield lambda **changes: apply_settings(enforced, **changes)
    apply_settings(enforced, **NOTHING)


WEAK = {"gie_enforced_adapter": "Fixed scale", "gie_enforced_strength": 0.1, "gie_enforced_scale": -0.25}


@pytest.mark.parametrize("concepts", ["", "knife", "knife:0.01"])
@pytest.mark.parametrize("strength", [0.1, 1e-9])
def test_settings_weaken_nothing_of_the_command_line(enforced, erased, settings, concepts, strength):
    changes = {**WEAK, "gie_enforced_concepts": concepts, "gie_enforced_strength": strength}
    settings(**changes)
    assert enforced.call("options")["gie_enforced_strength"] == strength
    assert enforced.txt2img() == erased


def test_settings_concepts_come_on_top(enforced, erased, settings):
    settings(gie_enforced_concepts="cat", gie_enforced_adapter="Fixed scale", gie_enforced_scale=SCALE)
    both = enforced.txt2img()
    assert both != erased
    assert all("GIE enforced: knife, cat" in text or 'GIE enforced: "knife, cat"' in text for text in both.infotexts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", 0), ("strength", -1), ("scale", 0), ("scale", 5), ("floor", 1), ("concepts", ","),
        ("concepts", "cat:0"), ("adapter", "nowhere"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_makes_no_image(enforced, settings, name, value):
    settings(**{"gie_enforced_concepts": "cat", f"gie_enforced_{name}": value})
    with pytest.raises(RequestFailedError, match=f"gie_enforced_{name}|there is no adapter"):
        enforced.txt2img()


def test_a_lock_holds(enforced, erased):
    """With --freeze-settings-in-sections growth_inhibitors."""
    if "growth_inhibitors" not in str(enforced.call("cmd-flags").get("freeze_settings_in_sections")):
        pytest.skip(not_run.UNLOCKED_WEBUI)
    before = enforced.call("options")
    with suppress(urllib.error.HTTPError):  # v1.10.1 leaves a locked setting as it is and says nothing
        apply_settings(enforced, gie_enforced_concepts="cat")
    after = enforced.call("options")
    assert {name: after[name] for name in NOTHING} == {name: before[name] for name in NOTHING}
    assert enforced.txt2img() == erased


# -- the tab ------------------------------------------------


def test_there_is_no_tab_and_none_of_its_handlers(enforced):
    if enforced.call("cmd-flags").get("gie_tab") == "on":
        pytest.skip(not_run.WEBUI_WITH_TAB)
    config = enforced.get("config")
    names = [str(part.get("props", {}).get("elem_id") or "") for part in config["components"]]
    assert any(name.startswith("gie_txt2img") for name in names)
    assert not [name for name in names if name.startswith("gie_train")]


def test_the_admins_arguments_are_told(enforced):
    """The API's list of arguments takes a type for each from its default."""
    flags = enforced.call("cmd-flags")
    assert "knife" in flags["gie_enforce"]
    assert enforced.get("gie/v1/adapters")["enforced"].startswith("knife")
