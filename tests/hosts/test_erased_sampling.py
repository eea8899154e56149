"""Who drives an erasure: the contract of a host, and the class that every host announces its steps to."""

from __future__ import annotations

import inspect

import not_run
import pytest
import torch
from tiny import build_ldm, make_batch, make_concept

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.errors import ErasureError
from lib_gie.hosts.erased_sampling import ErasedSampling, RowsInOrder
from lib_gie.hosts.marked_rows import MarkedRows
from lib_gie.hosts.protocol import SamplingHost, StepRows
from lib_gie.randomness import undrawn

BATCH = make_batch((0, 1, None, None))


class TinyHost:
    """A UNet and random concepts."""

    def __init__(self):
        self.tiny = build_ldm()
        self.unet = self.tiny.module

    def encode(self, concept):
        return make_concept(concept.text)

    def undisturbed(self):
        return undrawn()

    def call(self, rows=slice(None), **kwargs):
        """One UNet call with these rows of the batch."""
        with torch.no_grad():
            return self.unet(BATCH.latents[rows], BATCH.timesteps[rows], context=BATCH.context[rows], **kwargs)


@pytest.fixture
def host():
    return TinyHost()


def hosts() -> list[type]:
    """The classes that are sampling hosts."""
    pytest.importorskip("diffusers", reason=not_run.DIFFUSERS)
    from lib_gie.evaluation.bench.sampler import Sampler
    from lib_gie.hosts.diffusers.erased_call import PipelineModel

    return [TinyHost, PipelineModel, Sampler]


def test_every_host_has_the_methods_of_the_contract():
    for host in hosts():
        for name in ("encode", "undisturbed"):
            wanted = inspect.signature(getattr(SamplingHost, name)).parameters
            assert inspect.signature(getattr(host, name)).parameters.keys() == wanted.keys(), host


def test_rows_have_one_shape(host):
    assert isinstance(host, SamplingHost)
    for rows in (RowsInOrder([0, None]), MarkedRows([[0]])):
        assert isinstance(rows, StepRows)
        assert list(rows.names) == [0, None]


def attached(host, sampling, scale=-3.0):
    erasure = Erasure([Target(make_concept(), FixedScale(scale))], ledger=sampling.ledger)
    sampling.attach(erasure)
    return erasure


def test_conditional_rows_are_erased_from_and_nothing_stays_behind(host):
    off = host.call()
    with ErasedSampling(host) as sampling:
        attached(host, sampling)
        sampling.begin_step(RowsInOrder(BATCH.rows), 0.0)
        on = host.call()
    assert torch.equal(on[2:], off[2:])
    assert (on[:2] - off[:2]).abs().amax((1, 2, 3)).min() > 1e-3
    assert torch.equal(host.call(), off)
    assert not host.unet._forward_pre_hooks


def test_without_an_erasure_there_are_no_hooks_and_no_checks(host):
    with ErasedSampling(host) as sampling:
        sampling.begin_step(RowsInOrder([None]), 0.0)
        assert not host.unet._forward_pre_hooks


def test_what_was_missed_or_swallowed_is_raised_at_the_end(host):
    with pytest.raises(ErasureError, match="2 conditional rows"), ErasedSampling(host) as sampling:
        attached(host, sampling)
        sampling.begin_step(RowsInOrder(BATCH.rows), 0.0)
    sampling = ErasedSampling(host)
    attached(host, sampling)
    with pytest.raises(ErasureError, match="no sampling step announced"):
        host.call()
    with pytest.raises(ErasureError, match="no sampling step announced"):
        sampling.finish()
    sampling.close()
    assert not host.unet._forward_pre_hooks


def test_an_exception_of_the_host_passes_through(host):
    with pytest.raises(ZeroDivisionError), ErasedSampling(host) as sampling:
        attached(host, sampling)
        raise ZeroDivisionError
    assert not host.unet._forward_pre_hooks


class Marked(torch.nn.Module):
    """A UNet that is called with options, as ComfyUI's and Forge's are."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, timesteps, context, transformer_options):
        return self.inner(x, timesteps, context=context)


def test_marked_chunks_in_the_order_of_their_call(host):
    """Two images with one part each: the unconditional chunk first, or each in a call of its own."""
    off = host.call()
    host.unet = Marked(host.unet)
    for calls in (([1, 0],), ([0], [1]), ([1], [0])):
        with ErasedSampling(host) as sampling:
            attached(host, sampling)
            sampling.begin_step(MarkedRows([[0, 1]]), 0.0)
            for marks in calls:
                rows = torch.tensor([row for mark in marks for row in ((2, 3) if mark else (0, 1))])
                on = host.call(rows, transformer_options={"cond_or_uncond": marks})
                for row, output in zip(rows.tolist(), on, strict=True):
                    assert torch.allclose(output, off[row], atol=1e-5) == (row >= 2)


def test_a_call_whose_marks_do_not_fit_is_refused(host):
    host.unet = Marked(host.unet)
    with pytest.raises(ErasureError, match="chunks of 2"), ErasedSampling(host) as sampling:
        attached(host, sampling)
        sampling.begin_step(MarkedRows([[0, 1]]), 0.0)
        with pytest.raises(ErasureError, match="chunks of 2"):
            host.call(transformer_options={"cond_or_uncond": [0]})
