"""Textual inversions against what is always erased: whoever may use the API can make them.

Needs a WebUI that was started with --gie-enforce knife (GIE_WEBUI_ENFORCED_URL), and one that was not. Of each case 16
images are made; a knife may be left in one of them.
"""

from __future__ import annotations

import time

import pytest
from test_enforced_rows import ALLOWED, left, made

ALIAS, CONCEPT = "gie-alias", "knife"


def embeddings(webui):
    return webui.folder.parent / f"webui-{webui.url.rpartition(':')[2]}" / "embeddings"


@pytest.fixture
def inversion(enforced):
    """Makes a textual inversion of these words, and takes all of them away afterwards."""
    names = set()

    def make(name: str, words: str, vectors: int) -> None:
        names.add(name)
        body = {"name": name, "num_vectors_per_token": vectors, "init_text": words, "overwrite_old": True}
        enforced.call("create/embedding", body)
        enforced.call("refresh-embeddings", {})

    yield make
    for name in names:  # the API takes none away: a file that holds none is left out by the WebUI
        for path in embeddings(enforced).glob(f"{name}.*"):
            path.unlink()
    enforced.call("refresh-embeddings", {})


@pytest.mark.parametrize(("words", "vectors"), [("dog", 1), ("dog", 2), ("a", 2)])
def test_one_with_the_concepts_name_takes_nothing_away(enforced, inversion, words, vectors):
    inversion(ALIAS, "knife", 2)
    inversion(CONCEPT, words, vectors)
    assert left(made(enforced, f"a {ALIAS} on a blue background")) <= ALLOWED


def test_one_that_is_too_long_locks_nobody_out(enforced, inversion):
    inversion(CONCEPT, "knife", 76)
    assert made(enforced, "a cat", batch_size=1).images


@pytest.mark.parametrize(
    "prompt", [ALIAS, f"a {ALIAS} on a blue background", " BREAK ".join([ALIAS] * 4), f"({ALIAS}:1.5)"]
)
def test_the_words_many_times_under_another_name(enforced, inversion, prompt):
    inversion(ALIAS, "knife", 70)
    assert left(made(enforced, prompt)) <= ALLOWED


@pytest.mark.parametrize(("prompt", "vectors"), [(f"evening {ALIAS} cat", 1), (ALIAS, 70)])
def test_one_that_is_replaced_after_its_prompt_was_encoded(enforced, inversion, prompt, vectors):
    """The WebUI keeps the prompt as it was encoded."""
    inversion(ALIAS, "knife", vectors)
    assert left(made(enforced, prompt)) <= ALLOWED
    inversion(ALIAS, "dog", 1)
    assert left(made(enforced, prompt)) <= ALLOWED


@pytest.mark.parametrize("prompt", ["a (knife:2)", "a (knife:3)", "a (knife:1.5) on a blue background", "a knife"])
@pytest.mark.parametrize("skip", [2, 3])
def test_emphasis_at_another_clip_skip(enforced, prompt, skip):
    assert left(made(enforced, prompt, settings={"CLIP_stop_at_last_layers": skip})) <= ALLOWED


@pytest.mark.parametrize("prompt", [":" + "1" * 40000 + "x", "<a:" * 3000, "a" + " " * 20000 + ":"])
def test_a_prompt_that_takes_long_to_read(webui, enforced, prompt):
    """The WebUI itself takes some seconds for such a prompt; with this extension it takes hardly longer."""
    start = time.monotonic()
    webui.txt2img(prompt, args=[False], steps=1)
    plain = time.monotonic()
    enforced.txt2img(prompt, steps=1)
    assert time.monotonic() - plain < 5 + 3 * (plain - start)
