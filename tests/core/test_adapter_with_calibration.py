"""Adapters that keep their concept's calibration: its answer counts where it is the stronger one, and is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from test_calibrated import (
    CONTEXT,
    FREE,
    INPUTS,
    KNIFE,
    LATENTS,
    READINGS,
    Runs,
    calibration,
    fitted,
    other,  # noqa: F401 -- a fixture
    run,
    scored,
)
from tiny import make_concept

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, add_validation, load_adapter, save_adapter
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.core.scales.files import metadata_in
from lib_gie.core.scales.input_range import fit_range
from lib_gie.core.scales.scale_rules import MISREAD, guarded
from lib_gie.core.session import attach
from lib_gie.errors import AdapterError

OWN = 6  # inputs of the MLP


def ranged(made: Calibration, spread: float = 1.0) -> Calibration:
    """The calibration with a range around what it calls neutral."""
    draws = made.discriminant.mean + spread * torch.randn(80, INPUTS, generator=torch.Generator().manual_seed(1))
    return Calibration(made.info, made.discriminant, fit_range(draws[::2], draws[1::2]))


def adapter_with(behind: Calibration | None, answer: float = -0.5, inputs: int = OWN) -> Adapter:
    """Its MLP gives the same answer whatever it reads."""
    adapter = Adapter(AdapterInfo("width-24", inputs, ("knife",), (-9.0, 0.0), Reading(True, 3))).eval()
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
        adapter.out.bias.fill_(answer)
    adapter.calibration = behind
    return adapter


def inputs_of(*scores: float, tokens: int = 1) -> torch.Tensor:
    """Inputs of the MLP and of the calibration, with these scores: float32 [rows, OWN + INPUTS, tokens]."""
    return torch.cat([torch.ones(len(scores), OWN, 1), scored(*scores)], 1).expand(-1, -1, tokens)


def test_w_is_the_stronger_of_both_answers():
    adapter = adapter_with(ranged(calibration()))
    found = adapter.scales(inputs_of(0.25, 0.3, 0.5, 0.9, tokens=2), 4, 2)
    expected = torch.tensor([-0.5, -0.5, -1.0, -2.0])[:, None].expand(4, 2)
    torch.testing.assert_close(found, expected)
    assert torch.equal(adapter_with(None).scales(inputs_of(0.9), 1, 1), torch.tensor([[-0.5]]))


@pytest.mark.parametrize("unknown", [torch.nan, torch.inf, 1e6])
def test_what_the_calibration_does_not_know_is_the_mlps_alone(unknown):
    adapter = adapter_with(ranged(calibration()))
    inputs = inputs_of(0.9, 0.9).clone()
    inputs[1, OWN + 3 :] = unknown
    assert adapter.scales(inputs, 2, 1).flatten().tolist() == [-2.0, -0.5]
    inputs[:, OWN:] = unknown
    assert adapter.scales(inputs, 2, 1).flatten().tolist() == [-0.5, -0.5]


def test_the_mlps_range_alone_says_what_is_outside():
    adapter = adapter_with(ranged(calibration()))
    near = torch.randn(60, OWN, generator=torch.Generator().manual_seed(2))
    adapter.range = fit_range(near[:40], near[40:])
    inputs = inputs_of(0.0, 1e6).clone()
    inputs[:, :OWN] = 0.0
    assert adapter.is_outside(inputs).tolist() == [False, False]
    inputs[1, :OWN] = 99.0
    assert adapter.is_outside(inputs).tolist() == [False, True]


# -- files ------------------------------------------------


def test_a_file_keeps_it(tmp_path):
    adapter = adapter_with(ranged(calibration()))
    save_adapter(adapter, tmp_path / "a.safetensors")
    add_validation(tmp_path / "a.safetensors", left=0.1)
    found = load_adapter(tmp_path / "a.safetensors")
    assert found.calibration.info == adapter.calibration.info
    assert found.info.validation == {"left": 0.1}
    assert found.readings == (adapter.info.reading, *READINGS)
    assert set(found.optional) == set(READINGS)
    assert torch.equal(found.scales(inputs_of(0.6), 1, 1), adapter.scales(inputs_of(0.6), 1, 1))
    assert found.weights_digest == adapter.weights_digest


def test_images_tell_which_calibration_an_adapter_has():
    made = ranged(calibration())
    others = [None, ranged(calibration(strength=-1.5)), ranged(made, 2.0)]
    assert len({adapter_with(one).weights_digest for one in (made, *others)}) == 4


def damaged(tmp_path, change) -> bytes:
    """Return the content of a file whose tensors and metadata ``change`` was given."""
    save_adapter(adapter_with(ranged(calibration())), path := tmp_path / "a.safetensors")
    tensors, metadata = load(path.read_bytes()), metadata_in(path.read_bytes())
    change(tensors, metadata)
    return save(tensors, metadata)


def without(name):
    return lambda tensors, metadata: tensors.pop(name)


def saying(text):
    return lambda tensors, metadata: metadata.update(calibration=text)


def said_of(**changes):
    def change(tensors, metadata):
        metadata["calibration"] = json.dumps(json.loads(metadata["calibration"]) | changes)

    return change


def without_range(tensors, metadata):
    for name in [name for name in tensors if name.startswith("calibration_range_")]:
        del tensors[name]


BAD = {
    "a tensor is missing": without("calibration_direction"),
    "part of its range is missing": without("calibration_range_bound"),
    "its range is missing": without_range,
    "no JSON": saying("{"),
    "a list": saying("[]"),
    "numbers": saying('{"base": 1}'),
    "nothing": saying("{}"),
    "deep": saying("[" * 100_000),
    "another family": said_of(base="sd2"),
    "another concept": said_of(concepts='["wine"]'),
    "a strength above 0": said_of(strength="1"),
    "its metadata is missing": lambda tensors, metadata: metadata.pop("calibration"),
    "not finite": lambda tensors, metadata: tensors["calibration_direction"].fill_(torch.nan),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_files_that_make_no_sense_are_refused(tmp_path, change):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damaged(tmp_path, change))
    with pytest.raises(AdapterError) as failure:
        load_adapter(path)
    assert "bad.safetensors" in str(failure.value)
    assert len(str(failure.value)) < 600


# -- in calls of a UNet ------------------------------------------------


def in_a_unet(unet, other, **changes) -> Adapter:  # noqa: F811
    """An adapter whose MLP sees no concept anywhere, and whose calibration sees it under CONTEXT."""
    adapter = adapter_with(
        ranged(fitted(unet, CONTEXT[0], other, **changes)), 0.0, sum(one.heads for one in unet.cross_attention)
    )
    assert not adapter.calibration.is_outside(adapter.calibration.discriminant.mean[None, :, None]).any()
    return adapter


def erased(unet, adapter, context, calls=1) -> tuple[Erasure, list[int]]:
    erasure = Erasure([Target(KNIFE, guarded(adapter, -3.0))])
    erasure.facts[0] = FREE
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure, context=context, steps=calls)
    return erasure, runs.rows


def test_it_is_read_beside_the_attention(unet, other):  # noqa: F811
    adapter = in_a_unet(unet, other)
    erasure, rows = erased(unet, adapter, CONTEXT, calls=2)
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)]
    assert sorted(rows) == [1, 2, 2, 2]  # the attention, both readings at once, the host's own two calls
    assert erased(unet, adapter, torch.stack([other, CONTEXT[1]]))[0].scales[0][0].tolist() == [0.0]


def test_where_it_cannot_be_read_the_adapter_goes_on_without_it(unet, other):  # noqa: F811
    """A prompt of two contexts: calibrations know those of one. The adapter's own answer stays, and is no doubt."""
    adapter = in_a_unet(unet, other)
    erasure, _ = erased(unet, adapter, torch.cat([CONTEXT, CONTEXT], 1))
    assert erasure.scales[0][0].tolist() == [0.0]
    assert erasure.doubts(0) == ("",)


def test_what_the_adapter_itself_needs_is_still_a_doubt(unet, other):  # noqa: F811
    """Another extension's forward may count on the image's size, which is not the one that the adapter reads at."""
    adapter = in_a_unet(unet, other)
    adapter.info = replace(adapter.info, reading=replace(adapter.info.reading, size=(16, 16)))
    inner = unet.module.forward
    unet.module.forward = lambda *args, **kwargs: inner(*args, **kwargs)
    try:
        erasure, _ = erased(unet, adapter, torch.stack([other, CONTEXT[1]]))
    finally:
        del unet.module.forward
    assert erasure.scales[0][0].tolist() == [-3.0]
    assert erasure.doubts(0)[0].endswith(MISREAD)


def test_a_concept_of_several_tokens_has_one_answer_of_it(unet, other):  # noqa: F811
    adapter = in_a_unet(unet, other)
    knives = make_concept("knife", 3, seed=5)
    erasure = Erasure([Target(knives, adapter)])
    with attach(unet.module, erasure):
        run(unet, erasure, latents=LATENTS, context=CONTEXT)
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)] * 3
