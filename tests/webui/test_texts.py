"""What people type and paste, in the WebUI: separators, textual inversions, infotexts that cannot be read, fuzzing."""

from __future__ import annotations

import shutil
import time
import uuid

import pytest
from client import CHECKPOINT, SCALE, RequestFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_matrix import IMG2IMG

from lib_gie.hosts.webui.request.infotext import ALL_KEYS

ON = [True, "knife", "Fixed scale", 1, SCALE]
SECONDS = 20


def fixed(concepts: str) -> list:
    return [True, concepts, *ON[2:]]


@pytest.mark.parametrize(
    "text", ["knife\uff0cwine", "knife\u3001wine", "knife; wine", "knife\nwine", "knife\uff1bwine\n"]
)
def test_several_concepts(webui, text):
    found = webui.txt2img(args=fixed(text))
    assert found == webui.txt2img(args=fixed("knife, wine"))
    assert 'GIE concepts: "knife, wine"' in found.infotexts[0]


def test_typographic_quotes(webui):
    found = webui.txt2img(args=fixed("\u201cvan gogh, oil\u201d:0.5"))
    assert found == webui.txt2img(args=fixed('"van gogh, oil":0.5'))


INVERSIONS = {CHECKPOINT: "giesyringe", "tiny-sdxl": "giesyringe-sdxl", "tiny-sd2": "giesyringe-sd2"}


@pytest.mark.parametrize("model", INVERSIONS)
def test_a_textual_inversion_is_all_of_its_vectors(webui, model):
    """Three vectors that are the tokens of "syringe" erase as that word does, to the bit."""
    name = INVERSIONS[model]
    webui.use_checkpoint(model)
    try:
        (told,) = webui.get(f"gie/v1/tokens?concepts={name}")
        word = webui.txt2img("a syringe", args=fixed("syringe"), steps=4)
        found = webui.txt2img("a syringe", args=fixed(name), steps=4)
        assert found != webui.txt2img("a syringe", steps=4)
    finally:
        webui.use_checkpoint(CHECKPOINT)
    assert told["tokens"] == [f"{name}[{number}]" for number in (1, 2, 3)]
    assert found == word


def test_the_prompts_textual_inversion_is_not_the_concepts(webui):
    """A concept without one is encoded without those of the prompt."""
    plain = webui.txt2img("a giesyringe and a knife")
    webui.txt2img("a cat", args=ON)  # encodes the concept where no prompt has one
    first = webui.txt2img("a giesyringe and a knife", args=ON)
    webui.txt2img("a cat", args=fixed("wine"))
    assert webui.txt2img("a giesyringe and a knife", args=ON) == first != plain


# -- infotexts ------------------------------------------------


SETTINGS = "a cat and a knife\nSteps: 4, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.0, Seed: 5, Size: 64x64"
UNREADABLE = {
    "GIE concepts: knife, GIE strength: abc": "GIE strength",
    "GIE concepts: knife, GIE strength: 9": "GIE strength",
    "GIE concepts: knife, GIE steps: 0.2": "GIE steps",
    "GIE concepts: knife, GIE keep composition: True, GIE composition: 1": "GIE composition",
    "GIE concepts: knife, GIE keep composition: yes": "GIE keep composition",
    "GIE concepts: knife, GIE scale rule: fixed -3": "GIE scale rule",
    "GIE concepts: knife, GIE start: 0": "GIE start",
    "GIE concepts: knife, GIE adapter: gone": "is not installed here",
    "GIE concepts: [object Object]": "a site has lost",
    "GIE concepts: knife, wine:0.5, GIE adapter: Fixed scale": "quotes around GIE concepts are lost",
    "GIE concepts: , GIE adapter: Fixed scale": "GIE concepts",
    "GIE concepts: 64x64": "GIE concepts",
    "GIE strength: 1": "does not name the concepts",
    "GIE enforced: nudity": "always erases",
    "gie concepts: knife": "not known",
    "GIE concepts: knife\nTemplate: a cat": "GIE concepts",
}


@pytest.mark.parametrize(("entries", "says"), UNREADABLE.items())
@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_an_infotext_that_cannot_be_read_is_refused(webui, route, entries, says):
    more = {"init_images": IMG2IMG["init_images"]} if route == "img2img" else {}
    with pytest.raises(RequestFailedError, match=says) as failure:
        webui.call(route, {"infotext": f"{SETTINGS}, {entries}", **more})
    assert failure.value.code == 422


def test_a_disregarded_infotext_is_not_read(webui):
    """What the settings disregard is neither erased nor refused."""
    webui.call("options", {"infotext_skip_pasting": list(ALL_KEYS)})
    try:
        plain = webui.from_infotext(f"{SETTINGS}, GIE concepts: knife, GIE strength: abc")
        assert "GIE" not in plain.infotexts[0]
        named = {"infotext": f"{SETTINGS}, GIE concepts: wine", "alwayson_scripts": {"Growth Inhibitors": {"args": ON}}}
        assert "GIE concepts: knife" in webui.call("txt2img", named)["info"]
    finally:
        webui.call("options", {"infotext_skip_pasting": []})


@pytest.mark.parametrize("passes", ["second only", "first only"])
def test_img2img_is_erased_from_whatever_the_hires_passes(webui, passes):
    args = [{"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE, "hires": passes}]
    erased = webui.txt2img(args=ON, **IMG2IMG)
    assert webui.txt2img(args=args, **IMG2IMG) == erased != webui.txt2img(**IMG2IMG)


# -- the same request is the same image ------------------------------------------------


def test_reading_an_adapter_changes_no_image(webui):
    """img2img draws from the global random numbers; the first request that reads a file equals the next."""
    folder = webui.folder / "models" / "growth-inhibitors"
    name = f"gie{uuid.uuid4().hex}"
    expected = webui.txt2img(**IMG2IMG)
    shutil.copy(folder / "gietest.safetensors", folder / f"{name}.safetensors")
    try:
        first, second = (webui.txt2img(args=[True, "balloon", name], **IMG2IMG) for _ in range(2))
        assert first == second
        zero = [True, "balloon", f"{name}", 0]
        assert webui.txt2img(args=zero, **IMG2IMG) == expected
    finally:
        (folder / f"{name}.safetensors").unlink()


# -- fuzzing ------------------------------------------------

LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from(["knife", "Fixed scale", "Automatic", "separate", "both", '"', "\ud800", "knife " * 500])
)  # fmt: skip
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=16) | st.dictionaries(st.text(max_size=8), inner))
NAMES = st.sampled_from(["enabled", "concepts", "adapter", "strength", "scale", "start", "end", "hires", "unknown"])
ARGUMENTS = VALUE | st.lists(VALUE, max_size=15) | st.dictionaries(NAMES, VALUE).map(lambda named: [named])
ENTRY = ARGUMENTS.map(lambda value: {"args": value}) | VALUE
ENTRIES = st.lists(
    st.tuples(st.sampled_from([*ALL_KEYS, "gie x"]), st.text(alphabet='knife ,:;"\\0.5-[]', max_size=20)), max_size=4
)
HARD = ['"' * 4000, " " * 1400 + '"x"y', "a" * 4000, ":" * 4000, "\n" * 4000, "\u3001" * 4000, '"a"' * 1333]
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _limited(webui, body: dict) -> tuple[int, str]:
    """The answer's status and its infotexts; it comes in time and is none of the WebUI's own errors."""
    start, failure = time.monotonic(), None
    try:
        answer = webui.call("txt2img", {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, **body})
    except RequestFailedError as error:
        answer = failure = error
    assert time.monotonic() - start < SECONDS
    assert failure is None or (failure.code == 422 and len(str(failure)) < 2000), failure
    code = 200 if failure is None else 422
    return code, str(answer)


@FUZZ
@given(ENTRY)
def test_any_arguments_are_done_or_refused(webui, entry):
    code, answer = _limited(webui, {"alwayson_scripts": {"Growth Inhibitors": entry}})
    if code == 200:
        args = entry["args"]
        named = args[0] if args and isinstance(args[0], dict) else None
        on = named.get("enabled") is not False if named is not None else bool(args) and args[0] is True
        assert ("GIE concepts" in answer) == on


@FUZZ
@given(ENTRIES)
def test_any_infotext_is_done_or_refused(webui, entries):
    text = ", ".join(f"{key}: {value}" for key, value in entries)
    code, answer = _limited(webui, {"infotext": f"{SETTINGS.replace('Steps: 4', 'Steps: 1')}, {text}"})
    assert code == 422 or ("GIE concepts" in answer) == any(key == "GIE concepts" for key, _ in entries)


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_take_no_time(webui, text):
    from urllib.parse import quote

    start = time.monotonic()
    with pytest.raises(RequestFailedError):
        webui.get(f"gie/v1/tokens?concepts={quote(text)}")
    code, _ = _limited(webui, {"alwayson_scripts": {"Growth Inhibitors": {"args": [True, text]}}})
    assert code == 422
    code, _ = _limited(webui, {"infotext": f"{SETTINGS}, GIE concepts: {text}"})
    assert code == 422
    assert time.monotonic() - start < SECONDS


def test_afterwards_requests_are_as_before(webui):
    assert webui.txt2img(args=ON) == webui.txt2img(
        args=[{"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}]
    )
