"""Adapters that read what is predicted beside the attention, and the narrow ones that answer where that is unknown."""

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
    fitted,
    other,  # noqa: F401 -- a fixture
    run,
)
from tiny import make_concept

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.kept_answers import KeptAnswers
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, add_validation, load_adapter, save_adapter
from lib_gie.core.scales.files import metadata_in
from lib_gie.core.scales.input_range import InputRange, fit_range
from lib_gie.core.scales.scale_rules import MISREAD, guarded
from lib_gie.core.session import attach, read_attention, read_inputs
from lib_gie.errors import AdapterError

OWN = 6  # inputs that are read of the attention


def range_around(mean: torch.Tensor, spread: float = 1.0) -> InputRange:
    """The range of inputs around a mean, float32 [inputs]."""
    draws = mean + spread * torch.randn(80, len(mean), generator=torch.Generator().manual_seed(1))
    return fit_range(draws[::2], draws[1::2])


def adapter_of(inputs: int, predicted: tuple[Reading, ...], answer: float, by: torch.Tensor | None = None) -> Adapter:
    """An MLP whose answer is ``answer`` times what ``by``, float32 [inputs], says of the inputs; 1 without."""
    adapter = Adapter(
        AdapterInfo("width-24", inputs, ("knife",), (-9.0, 0.0), Reading(True, 3), predicted=predicted)
    ).eval()
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
        if by is None:
            adapter.out.bias.fill_(answer)
        else:
            adapter.hidden[0].weight[0] = by
            adapter.hidden[1].weight[0, 0] = 1.0
            adapter.out.weight[0, 0] = answer
    return adapter


def wide(narrow: float = -0.5, own: float = -2.0, attention: int = OWN, spread: float = 1.0) -> Adapter:
    """The wide one says ``own`` times the first input of what is predicted, and the narrow one ``narrow``."""
    by = torch.zeros(attention + INPUTS)
    by[attention] = 1.0
    adapter = adapter_of(attention + INPUTS, READINGS, own, by)
    adapter.range = range_around(torch.zeros(attention + INPUTS), spread)
    adapter.narrow = adapter_of(attention, (), narrow)
    adapter.narrow.range = range_around(torch.zeros(attention))
    return adapter


def inputs_of(*scores: float, tokens: int = 1) -> torch.Tensor:
    """Inputs that get these scores: float32 [rows, OWN + INPUTS, tokens]."""
    inputs = torch.zeros(len(scores), OWN + INPUTS, 1)
    inputs[:, OWN, 0] = torch.tensor(scores)
    return inputs.expand(-1, -1, tokens)


def test_where_all_is_known_the_wide_one_answers():
    found = wide().scales(inputs_of(0.0, 0.25, 1.0, tokens=2), 3, 2)
    torch.testing.assert_close(found, torch.tensor([0.0, -0.5, -2.0])[:, None].expand(3, 2))


@pytest.mark.parametrize("unknown", [torch.nan, torch.inf, 1e6])
def test_where_it_is_not_the_narrow_one_does(unknown):
    inputs = inputs_of(1.0, 1.0).clone()
    inputs[1, OWN + 3 :] = unknown
    assert wide().scales(inputs, 2, 1).flatten().tolist() == [-2.0, -0.5]
    inputs[:, OWN:] = unknown
    assert wide().scales(inputs, 2, 1).flatten().tolist() == [-0.5, -0.5]


def test_for_what_an_admin_enforces_the_stronger_of_both_counts():
    adapter = wide()
    cautious = guarded(adapter, -3.0, plain_only=True)
    assert cautious.scales(inputs_of(0.0, 1.0), 2, 1).flatten().tolist() == [-0.5, -2.0]
    assert guarded(adapter, -3.0).scales(inputs_of(0.0, 1.0), 2, 1).flatten().tolist() == [0.0, -2.0]
    assert cautious.adapter.weights_digest == adapter.weights_digest
    assert not adapter.cautious


def test_attention_that_the_narrow_one_does_not_know_is_outside():
    """Also where it is not noticed among all the inputs."""
    adapter, inputs = wide(), inputs_of(0.0, 1e6, 0.0).clone()
    assert adapter.is_outside(inputs).tolist() == [False, False, False]
    inputs[1:, :OWN] = 6.0
    assert adapter.range.is_outside(inputs).tolist() == [False, True, False]
    assert adapter.is_outside(inputs).tolist() == [False, True, True]


@pytest.mark.parametrize("unknown", [torch.nan, 1e6])
def test_for_what_an_admin_enforces_both_must_know_the_prompt(unknown):
    inputs = inputs_of(0.0, 0.0).clone()
    inputs[1, OWN + 3] = unknown
    assert wide().cautiously().is_outside(inputs).tolist() == [False, True]
    assert wide().is_outside(inputs).tolist() == [False, False]


@pytest.mark.parametrize(
    ("inputs", "predicted"),
    [(INPUTS, READINGS), (INPUTS + OWN, READINGS * 5), (INPUTS + OWN, (Reading(True, 3),)), (1, READINGS[:1])],
)
def test_descriptions_that_make_no_sense_are_refused(inputs, predicted):
    with pytest.raises(AdapterError):
        AdapterInfo("width-24", inputs, ("knife",), (-9.0, 0.0), Reading(True, 3), predicted=predicted)


def test_it_fits_models_by_the_inputs_of_the_attention():
    adapter = wide()
    assert adapter.fits("width-24", [2, 4])
    assert not adapter.fits("width-24", [2, 5])
    adapter.check_model("width-24", [2, 4])
    with pytest.raises(AdapterError, match="6 inputs, and this model gives 7"):
        adapter.check_model("width-24", [2, 5])


# -- files ------------------------------------------------


def test_a_file_keeps_both(tmp_path):
    adapter = wide()
    save_adapter(adapter, tmp_path / "a.safetensors")
    add_validation(tmp_path / "a.safetensors", left=0.1)
    found = load_adapter(tmp_path / "a.safetensors")
    assert found.info.validation == {"left": 0.1}
    assert found.readings == (adapter.info.reading, *READINGS)
    assert found.optional == READINGS
    assert found.narrow.info == adapter.narrow.info
    inputs = inputs_of(0.0, 0.6, 1e6)
    assert torch.equal(found.scales(inputs, 3, 1), adapter.scales(inputs, 3, 1))
    assert torch.equal(found.is_outside(inputs), adapter.is_outside(inputs))
    assert found.weights_digest == adapter.weights_digest


def test_images_tell_all_that_scales_depend_on():
    without = wide()
    without.narrow = None
    others = [wide(), wide(narrow=-0.6), wide(own=-1.0), wide(spread=2.0), without]
    assert len({adapter.weights_digest for adapter in others}) == 5


def damaged(tmp_path, change) -> bytes:
    """Return the content of a file whose tensors and metadata ``change`` was given."""
    save_adapter(wide(), path := tmp_path / "a.safetensors")
    tensors, metadata = load(path.read_bytes()), metadata_in(path.read_bytes())
    change(tensors, metadata)
    return save(tensors, metadata)


def without(name):
    return lambda tensors, metadata: [tensors.pop(key) for key in list(tensors) if key.startswith(name)]


def saying(text):
    return lambda tensors, metadata: metadata.update(narrow=text)


def said_of(**changes):
    def change(tensors, metadata):
        metadata["narrow"] = json.dumps(json.loads(metadata["narrow"]) | changes)

    return change


BAD = {
    "a tensor is missing": without("narrow.out.bias"),
    "part of its range is missing": without("narrow.range_bound"),
    "the wide one's range is missing": without("range_"),
    "the narrow one's range is missing": without("narrow.range_"),
    "other labels": said_of(label_range="[-1.0, 0.0]"),
    "another lift": said_of(lift="[2.0, -1.0]"),
    "no JSON": saying("{"),
    "a list": saying("[]"),
    "numbers": saying('{"base": 1}'),
    "nothing": saying("{}"),
    "deep": saying("[" * 100_000),
    "another family": said_of(base="sd2"),
    "another concept": said_of(concepts='["wine"]'),
    "another reading": said_of(reading='{"per_head": false, "noise": null}'),
    "other inputs": said_of(inputs="7"),
    "it is wide as well": said_of(predicted=json.dumps([])[:-1] + "1]"),
    "its metadata is missing": lambda tensors, metadata: metadata.pop("narrow"),
    "the adapter reads nothing that is predicted": lambda tensors, metadata: metadata.pop("predicted"),
    "not finite": lambda tensors, metadata: tensors["narrow.out.bias"].fill_(torch.nan),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_files_that_make_no_sense_are_refused(tmp_path, change):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damaged(tmp_path, change))
    with pytest.raises(AdapterError) as failure:
        load_adapter(path)
    assert "bad.safetensors" in str(failure.value)
    assert len(str(failure.value)) < 900


# -- in calls of a UNet ------------------------------------------------


def in_a_unet(unet, other, reading=Reading(True, 3)) -> Adapter:  # noqa: B008, F811
    """An adapter whose narrow part sees no concept anywhere, and whose wide part sees it under CONTEXT."""
    known = fitted(unet, CONTEXT[0], other).discriminant
    attention = sum(one.heads for one in unet.cross_attention)
    call = LATENTS[:1], torch.zeros(1), other[None]
    (neutral,) = read_inputs(unet.module, [KNIFE], (replace(reading, size=(8, 8)), *READINGS), call)
    by = torch.cat([torch.zeros(attention), known.direction])
    adapter = adapter_of(attention + INPUTS, READINGS, -2.0, by)
    adapter.info = replace(adapter.info, reading=reading)
    adapter.input_mean.copy_(neutral[0, :, 0])
    adapter.range = range_around(neutral[0, :, 0])
    adapter.narrow = adapter_of(attention, (), 0.0)
    return adapter


def erased(unet, adapter, context, calls=1) -> tuple[Erasure, list[int]]:
    erasure = Erasure([Target(KNIFE, guarded(adapter, -3.0))])
    erasure.facts[0] = FREE
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure, context=context, steps=calls)
    return erasure, runs.rows


def test_what_is_read_at_once_is_what_is_read_one_by_one(unet, other):  # noqa: F811
    knives, readings = make_concept("knife", 3, seed=5), (Reading(True, 3, (8, 8)), *READINGS)
    call = LATENTS, torch.full((2,), 500), CONTEXT
    found = read_inputs(unet.module, [KNIFE, knives], readings, call)
    for number, tokens in enumerate((1, 3)):
        parts = [read_attention(unet.module, [KNIFE, knives], one, call)[number] for one in readings]
        assert found[number].shape[2] == tokens
        torch.testing.assert_close(found[number], torch.cat([part.expand(-1, -1, tokens) for part in parts], 1))


@pytest.mark.parametrize(
    ("reading", "rows"),
    [
        (Reading(True, 3), [1, 2, 2, 2]),  # the attention, both predictions at once, the host's own two calls
        (Reading(True, 0, (8, 8)), [1, 1, 2, 2]),  # the attention and the first prediction at once, the second one
    ],
)
def test_both_are_read_in_the_first_step(unet, other, reading, rows):  # noqa: F811
    adapter = in_a_unet(unet, other, reading)
    erasure, seen = erased(unet, adapter, CONTEXT, calls=2)
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0, abs=1e-3)]
    assert seen == rows
    plain, _ = erased(unet, adapter, torch.stack([other, CONTEXT[1]]))
    assert plain.scales[0][0].tolist() == [pytest.approx(0.0, abs=1e-3)]


def test_what_is_predicted_beside_the_attention_is_what_is_predicted_alone(unet, other):  # noqa: F811
    adapter = in_a_unet(unet, other, Reading(True, 0, (8, 8)))
    asked = []
    adapter.own_scales = lambda inputs: asked.append(inputs) or torch.zeros(len(inputs), inputs.shape[2])
    erased(unet, adapter, CONTEXT)
    (expected,) = read_inputs(unet.module, [KNIFE], adapter.readings, (LATENTS[:1], torch.zeros(1), CONTEXT[:1]))
    torch.testing.assert_close(asked[-1], expected)


def test_a_prompt_that_was_read_for_another_concept_is_not_predicted_again(unet, other):  # noqa: F811
    adapter, answers = in_a_unet(unet, other, Reading(True, 0, (8, 8))), KeptAnswers()
    for rows in ([1, 1, 2], [1, 2]):  # attention is another one for every concept, so it is not kept
        erasure = Erasure([Target(KNIFE, adapter)], answers=answers)
        with attach(unet.module, erasure), Runs(unet) as runs:
            run(unet, erasure, context=CONTEXT)
        assert runs.rows == rows


def test_a_prompt_of_two_contexts_is_the_narrow_ones(unet, other):  # noqa: F811
    """What is predicted for those was not fitted. The narrow one's answer is no doubt."""
    erasure, _ = erased(unet, in_a_unet(unet, other), torch.cat([CONTEXT, CONTEXT], 1))
    assert erasure.scales[0][0].tolist() == [0.0]
    assert erasure.replacements(0) == (None,)


def test_attention_that_is_misread_is_a_doubt_as_ever(unet, other):  # noqa: F811
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
    assert erasure.replacements(0)[0].reason == MISREAD


def test_each_token_of_a_concept_has_an_answer(unet, other):  # noqa: F811
    adapter = in_a_unet(unet, other)
    erasure = Erasure([Target(make_concept("knife", 3, seed=5), adapter)])
    with attach(unet.module, erasure):
        run(unet, erasure, latents=LATENTS, context=CONTEXT)
    assert len(erasure.scales[0][0]) == 3
