"""Images that another extension makes with the host's own function, past the wrapper that erases from them."""

from __future__ import annotations

import copy
import functools
import sys
from types import SimpleNamespace

import fake_host
import pytest
import torch
from fake_host import Processing, Runner, Sampling
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
    wrapped = processing.process_images_inner
    guard.install()  # Reload UI
    assert processing.process_images_inner is wrapped
    assert processing.process_images_inner is not theirs
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


def test_a_function_in_front_that_makes_its_images_without_the_hosts(behind, monkeypatch):
    """On another machine, say. Nothing sees a step, so nothing was erased."""
    guard = sys.modules["lib_gie.hosts.webui.guard"]
    monkeypatch.setattr(behind.host.processing, "process_images_inner", lambda p: SimpleNamespace(images=[1]))
    guard.install()
    assert behind.host.process([])[1].images == [1]
    with pytest.raises(ErasureError, match="without a sampling step"):
        behind.host.process(ON)
    behind.host.shared.cmd_opts.gie_enforce = "knife"
    with pytest.raises(ErasureError, match="without a sampling step"):
        behind.host.process([])


def test_on_a_host_that_nothing_can_be_erased_on_neither_makes_images(host, monkeypatch):  # noqa: F811
    processing, guard = host.processing, sys.modules["lib_gie.hosts.webui.guard"]
    host.shared.cmd_opts.gie_enforce = "knife"
    monkeypatch.setattr(fake_host.process_images_inner, "__module__", processing.__name__)
    monkeypatch.setattr(processing, "kept", fake_host.process_images_inner, raising=False)
    monkeypatch.setattr(processing, "process_images_inner", lambda p: SimpleNamespace(images=[1]))
    guard.install_refusal("Too old")
    for make in (processing.process_images_inner, processing.kept):
        with pytest.raises(ErasureError, match="it makes no images"):
            make(Processing(host))


def test_another_extensions_wrapper_that_looks_like_the_hosts_function(host, monkeypatch):  # noqa: F811
    """functools.wraps copies names; both are wrapped, and a job is done once."""
    _, expected = host.process(ON)
    processing, guard = host.processing, sys.modules["lib_gie.hosts.webui.guard"]
    monkeypatch.setattr(fake_host.process_images_inner, "__module__", processing.__name__)
    monkeypatch.setattr(processing, "kept", fake_host.process_images_inner, raising=False)

    @functools.wraps(fake_host.process_images_inner)
    def theirs(p):
        return processing.kept(p)

    monkeypatch.setattr(processing, "process_images_inner", theirs)
    guard.install()
    _, done = host.process(ON)
    assert torch.equal(stacked(done), stacked(expected))
    assert done.infotexts == expected.infotexts


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


@pytest.mark.parametrize("when", ["before_sampling", "after_image"])
def test_it_goes_by_its_own_prompt(host, when, monkeypatch):  # noqa: F811
    """Also where the outer one is sampled at that moment, which goes on by its own."""
    host.process(ON)  # loads what samples
    prompts = sys.modules["lib_gie.hosts.webui.sampling.pass_prompts"]
    asked, inner = [], prompts.facts_of
    monkeypatch.setattr(prompts, "facts_of", lambda text, *args: asked.append(text) or inner(text, *args))
    _, expected = host.process(ON)
    asked.clear()
    nested = nesting(host, [], fake_host.process_images_inner, "a dog")
    _, outer = host.process(ON, **{when: nested})
    assert list(dict.fromkeys(asked)) == (["a knife", "a dog"] if when == "after_image" else ["a dog", "a knife"])
    assert torch.equal(stacked(outer), stacked(expected))
    assert outer.infotexts == expected.infotexts


def test_a_copy_that_is_sampled_in_its_place_is_the_job(host):  # noqa: F811
    """Some extensions copy the object. What was found is the job's."""
    _, expected = host.process(ON)

    def sample_a_copy(p):
        p.one_pass = copy.copy(p).one_pass

    _, done = host.process(ON, before_sampling=sample_a_copy)
    assert torch.equal(stacked(done), stacked(expected))
    assert done.infotexts == expected.infotexts


@pytest.mark.parametrize("when", ["before_sampling", "after_image"])
def test_a_nested_generation_past_the_guard_from_which_nothing_is_erased(host, when):  # noqa: F811
    """It has one step, and erasing starts in the middle."""

    def nested(p):
        fake_host.process_images_inner(Processing(host, scripts=Runner(), sampling=Sampling(steps=1)))

    with pytest.raises(ErasureError, match="no sampling step lies between start"):
        host.process(
            [{"concepts": "knife", "adapter": FIXED, "start": 0.5}], sampling=Sampling(steps=4), **{when: nested}
        )


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


def test_whatever_fails_while_it_is_asked_the_image_does_not_come_out(host, monkeypatch):  # noqa: F811
    host.process([])
    generation = sys.modules["lib_gie.hosts.webui.sampling.erased_generation"]

    def broken():
        raise OSError("a disk that is gone")

    monkeypatch.setattr(generation, "enforced_requests", broken)
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        unseen(host, [])


def test_where_the_unet_is_not_known_what_calls_it_raises(host, monkeypatch):  # noqa: F811
    host.process([])
    monkeypatch.setattr(sys.modules["lib_gie.hosts.webui.sampling.batch_sampling"], "find_unet", lambda model: None)
    with pytest.raises(ErasureError, match="past growth inhibitors"):
        unseen(host, ON)


def test_a_refusal_does_not_meet_the_next_job(host):  # noqa: F811
    """Whoever sampled did not call the UNet after it was announced."""
    _, expected = host.process([])
    p = Processing(host, ON)
    for _ in range(2):
        host.announce(SimpleNamespace(denoiser=SimpleNamespace(p=p, step=0)))
    assert hooks_of(host.shared.sd_model.model.diffusion_model) == 1
    assert torch.equal(stacked(host.process([])[1]), stacked(expected))
    assert hooks_of(host.shared.sd_model.model.diffusion_model) == 0
