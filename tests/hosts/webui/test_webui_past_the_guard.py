"""Images that another extension makes with the host's own function, past the wrapper that erases from them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import fake_host
import pytest
import torch
from fake_host import Processing, Runner
from test_hooks import hooks_of
from test_webui_glue import ON, host  # noqa: F401

from lib_gie.errors import ErasureError
from lib_gie.options import FIXED

KEEP = [{"concepts": "knife", "adapter": FIXED, "scale": -3.0, "keep_composition": True}]


def stacked(done) -> torch.Tensor:
    return torch.stack(done.images)  # [images, 4, 8, 8]


def nesting(host, inner: list, make, prompt: str = "a knife"):  # noqa: F811
    """What is done after each image: another object's images by ``make``, without a trace in the outer one's outputs.

    ``inner``: collects what ``make`` returns.
    """

    def nested(p):
        before = list(host.outputs)
        other = Processing(host, scripts=Runner())
        other.all_prompts = [prompt] * len(other.all_prompts)
        inner.append(make(other))
        host.outputs[:] = before

    return nested


# -- another extension keeps the host's function under another name ------------------------------------------------


@pytest.fixture
def behind(host, monkeypatch):  # noqa: F811
    """(the fake host, objects that went through another extension's function, the name that it keeps the host's by).

    The other extension was there first, as ControlNet is by the alphabet.
    """
    processing, name = host.processing, "__other_original_process_images_inner"
    calls = []

    def theirs(p):
        calls.append(p)
        return getattr(processing, name)(p)

    monkeypatch.setattr(fake_host.process_images_inner, "__module__", processing.__name__)
    monkeypatch.setattr(processing, name, fake_host.process_images_inner, raising=False)
    monkeypatch.setattr(processing, "process_images_inner", theirs)
    guard = sys.modules["lib_gie.hosts.webui.guard"]
    guard.install()
    guard.install()  # Reload UI
    assert processing.process_images_inner is theirs
    return SimpleNamespace(host=host, calls=calls, kept=lambda p: getattr(processing, name)(p))


def test_every_job_passes_both_functions_once(behind, monkeypatch):
    p, done = behind.host.process(ON)
    assert behind.calls == [p]
    job = sys.modules["lib_gie.hosts.webui.job"]
    worked, inner = [], job.process
    monkeypatch.setattr(job, "process", lambda *args: worked.append(args[1]) or inner(*args))
    again, _ = behind.host.process(ON)
    assert worked == [again]
    assert "GIE concepts" in done.infotexts[0]


@pytest.mark.parametrize("args", [[], ON])
def test_a_detailer_that_puts_the_hosts_function_back(behind, args):
    """ADetailer with ControlNet: its generation erases what the outer one does, and its infotext says so."""
    _, expected = behind.host.process(args)
    inner: list = []
    _, outer = behind.host.process(args, after_image=nesting(behind.host, inner, behind.kept))
    assert torch.equal(stacked(outer), stacked(expected))
    for done in inner:
        assert torch.equal(stacked(done), stacked(expected))
        assert ("GIE concepts" in done.infotexts[0]) == bool(args)


def test_a_detailer_of_images_whose_composition_is_kept(behind):
    _, expected = behind.host.process(KEEP)
    inner: list = []
    _, outer = behind.host.process(KEEP, after_image=nesting(behind.host, inner, behind.kept))
    assert torch.equal(stacked(outer), stacked(expected))
    assert torch.equal(stacked(inner[0]), stacked(expected))


# -- a function that no wrapper is around ------------------------------------------------


@pytest.mark.parametrize("args", [[], ON])
def test_a_nested_generation_past_the_guard(host, args):  # noqa: F811
    """It is erased from all the same, and the outer one's later batches are as if it had not been."""
    _, expected = host.process(args, n_iter=2)
    inner: list = []
    nested = nesting(host, inner, fake_host.process_images_inner)
    _, outer = host.process(args, n_iter=2, after_image=nested)
    assert torch.equal(stacked(outer), stacked(expected))
    assert outer.infotexts == expected.infotexts
    assert len(inner) == 4
    for done in inner:
        assert torch.equal(stacked(done), stacked(expected)[:2])
        assert not any(key.startswith("GIE") for key in done.infotexts[0])


def test_it_goes_by_its_own_prompt(host, monkeypatch):  # noqa: F811
    host.process(ON)  # loads what samples
    prompts = sys.modules["lib_gie.hosts.webui.sampling.pass_prompts"]
    asked, inner = [], prompts.facts_of
    monkeypatch.setattr(prompts, "facts_of", lambda text, *args: asked.append(text) or inner(text, *args))
    host.process(ON, after_image=nesting(host, [], fake_host.process_images_inner, "a dog"))
    assert list(dict.fromkeys(asked)) == ["a knife", "a dog"]


def test_beside_the_erased_it_is_made_without_erasure_as_well(host):  # noqa: F811
    """Scripts that go over the images without erasure make theirs without, and what an admin enforces is erased."""
    host.process(ON)
    generation = sys.modules["lib_gie.hosts.webui.sampling.erased_generation"]
    _, plain = host.process([])
    inner: list = []

    def nested(p):
        with generation.stack()[-1].unerased():
            nesting(host, inner, fake_host.process_images_inner)(p)

    host.process(ON, after_image=nested)
    assert torch.equal(stacked(inner[0]), stacked(plain))
    host.shared.cmd_opts.gie_enforce = "knife"
    _, enforced = host.process([])
    inner.clear()
    host.process(ON, after_image=nested)
    assert torch.equal(stacked(inner[0]), stacked(enforced))
    assert not torch.equal(stacked(enforced), stacked(plain))


def test_its_composition_cannot_be_kept(host):  # noqa: F811
    with pytest.raises(ErasureError, match="another extension samples in its own way"):
        host.process(KEEP, after_image=nesting(host, [], fake_host.process_images_inner))


def test_a_script_that_makes_images_past_the_guard(host):  # noqa: F811
    """What is asked for stands in the arguments of the object that the script was given."""
    p = Processing(host, ON)
    p.scripts.selected = lambda p: fake_host.process_images_inner(Processing(host, scripts=Runner()))
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        host.runner_class.run(p.scripts, p)


def unseen(host, args) -> torch.Tensor:  # noqa: F811
    """Images that no wrapper has seen, in no generation that one has seen."""
    host.outputs.clear()
    return stacked(fake_host.process_images_inner(Processing(host, list(args))))


def test_images_that_nothing_is_wanted_of(host):  # noqa: F811
    _, plain = host.process([])
    assert torch.equal(unseen(host, []), stacked(plain))


@pytest.mark.parametrize("enforced", [False, True])
def test_images_past_the_guard_are_refused(host, enforced):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "knife" if enforced else None
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        unseen(host, [] if enforced else ON)
    assert hooks_of(host.shared.sd_model.model.diffusion_model) == 0
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        unseen(host, [True, ""])  # what it would be nobody can tell
    host.shared.cmd_opts.gie_enforce = None
    assert len(unseen(host, [])) == 2


def test_within_a_job_of_which_nothing_is_wanted(host):  # noqa: F811
    """A nested generation past the guard that asks for something itself."""
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        host.process([], after_image=lambda p: unseen(host, ON))
