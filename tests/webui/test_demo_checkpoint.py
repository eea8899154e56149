"""The demo checkpoint in a real WebUI, offline: it loads and draws what it is asked for."""

from __future__ import annotations

from looking import seen

from lib_gie.demo.sampling_settings import STEPS


def _found(webui, prompt: str, args=None) -> list[frozenset[str]]:
    answer = webui.txt2img(prompt, args, batch_size=8, n_iter=2, steps=STEPS)
    assert len(answer.images) == 16
    return [seen(image) for image in answer.images]


def _kept(before: list[frozenset[str]], after: list[frozenset[str]], name: str) -> float:
    """Of the images that show it without erasure, the share that still does."""
    pairs = [name in with_erasure for without, with_erasure in zip(before, after, strict=True) if name in without]
    return sum(pairs) / len(pairs)


def test_draws(webui):
    """About as often as ``python -m lib_gie quality`` says: nine in ten objects that are asked for."""
    shown = []
    for prompt, objects in (("a cat and a knife", ("cat", "knife")), ("a robbery", ("money", "knife"))):
        shown += [name in found for found in _found(webui, prompt) for name in objects]
    assert sum(shown) / len(shown) >= 0.8


def test_erases(webui):
    """Automatic takes the adapter that ships for it."""
    for prompt, other in (("a cat and a knife", "cat"), ("a robbery", "money")):
        found = _found(webui, prompt, [True, "knife"])
        assert sum("knife" in objects for objects in found) <= 1
        assert sum(other in objects for objects in found) >= 13


def test_erases_a_style(webui):
    """Automatic takes the adapter that ships for it, and what the picture shows stays."""
    prompt, style = "a pencil sketch of a cat and a book", "pencil sketch"
    before, after = _found(webui, prompt), _found(webui, prompt, [True, style])
    assert sum(style in shown for shown in before) >= 15
    assert sum(style in shown for shown in after) <= 2
    assert _kept(before, after, "cat") >= 0.8
    assert _kept(before, after, "book") >= 0.8


def test_erases_a_thing_from_a_picture_in_a_style(webui):
    prompt = "a neon sign of a cat and a knife"
    before, after = _found(webui, prompt), _found(webui, prompt, [True, "knife"])
    assert sum("knife" in shown for shown in before) >= 13
    assert sum("knife" in shown for shown in after) <= 1
    assert _kept(before, after, "cat") >= 0.8
    assert _kept(before, after, "neon sign") >= 0.8


def test_emphasis_does_not_blow_up(webui):
    """The WebUI's emphasis divides by the mean of the text states."""
    found = _found(webui, "a (cat:1.2) on a blue background")
    assert sum("cat" in objects for objects in found) >= 13
