"""Coming, going and failing: nothing stays behind, and nothing unknown is taken for erased."""

from __future__ import annotations

import copy

import not_run
import pytest
import torch
from tiny import build_diffusers, build_ldm, make_batch, make_concept

from lib_gie.core.call import UNetCall
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import PAPER, AttentionRecorder, Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach, read_attention
from lib_gie.errors import AdapterError, ErasureError, OptionError, UnsupportedModelError
from lib_gie.options import ErasureSettings

pytestmark = pytest.mark.usefixtures("either_arithmetic")

KNIFE, WINE = make_concept("knife", 1), make_concept("red wine", 2, seed=9)


def erasure(concept=KNIFE, scale=-3, **options) -> Erasure:
    return Erasure([Target(concept, FixedScale(scale))], **options)


def hooks_of(module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in m.__dict__) for m in module.modules())


def run(unet, batch, *erasures):
    for one in erasures:
        one.begin(batch.rows, 0.0)
    with torch.no_grad():
        return unet(*batch.arguments)


def test_nothing_stays_behind(unet, batch):
    plain = run(unet, batch)
    one = erasure()
    with attach(unet.module, one):
        assert hooks_of(unet.module) > 0
        run(unet, batch, one)
    assert hooks_of(unet.module) == 0
    assert torch.equal(run(unet, batch), plain)


def test_nothing_stays_behind_after_an_exception(unet, batch):
    with pytest.raises(KeyError), attach(unet.module, erasure()):
        raise KeyError
    with pytest.raises(ErasureError), attach(unet.module, erasure()):
        run(unet, batch)  # nothing was announced
    assert hooks_of(unet.module) == 0


def test_nothing_stays_behind_in_hooks_that_another_extension_has_moved(unet, batch):
    """Some filter a module's hooks into a new dict, of which the handles know nothing."""
    plain = run(unet, batch)
    one = erasure()
    with attach(unet.module, one):
        expected = run(unet, batch, one)
        for module in unet.module.modules():
            module._forward_hooks = module._forward_hooks.copy()
            module._forward_pre_hooks = module._forward_pre_hooks.copy()
        assert torch.equal(run(unet, batch, one), expected)
    assert hooks_of(unet.module) == 0
    assert torch.equal(run(unet, batch), plain)


def test_attaching_twice_is_attaching_once(unet, batch):
    one = erasure()
    with attach(unet.module, one):
        once = run(unet, batch, one)
        count = hooks_of(unet.module)
        with attach(unet.module, one):
            assert hooks_of(unet.module) == count
            assert torch.equal(run(unet, batch, one), once)
        assert torch.equal(run(unet, batch, one), once)
    assert hooks_of(unet.module) == 0


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_nested_erasures_add_up(unet, batch, concept_pass):
    both = Erasure([Target(KNIFE, FixedScale(-3)), Target(WINE, FixedScale(-1))], concept_pass=concept_pass)
    with attach(unet.module, both):
        expected = run(unet, batch, both)
    outer, inner = erasure(concept_pass=concept_pass), erasure(WINE, -1, concept_pass=concept_pass)
    with attach(unet.module, outer), attach(unet.module, inner):
        nested = run(unet, batch, outer, inner)
    if concept_pass == "fused":
        torch.testing.assert_close(nested, expected, atol=1e-5, rtol=1e-5)
    assert (nested - expected).abs().max() < 1e-4


def test_two_models_at_once(batch):
    first, second = build_ldm(), build_diffusers()
    one, other = erasure(), erasure(WINE, -1)
    with attach(first.module, one):
        alone = run(first, batch, one)
    with attach(first.module, one), attach(second.module, other):
        assert torch.equal(run(first, batch, one), alone)
        run(second, batch, other)
        assert torch.equal(run(first, batch, one), alone)
    assert hooks_of(first.module) == hooks_of(second.module) == 0


def test_works_again_after_a_failure(unet, batch):
    one = erasure()
    with attach(unet.module, one):
        expected = run(unet, batch, one)
    broken = unet.cross_attention[-1]
    handle = broken.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError()))
    with attach(unet.module, one), pytest.raises(MemoryError):
        run(unet, batch, one)
    handle.remove()
    other = erasure()
    with attach(unet.module, other):
        assert torch.equal(run(unet, batch, other), expected)


@pytest.mark.parametrize("rows", [5, 8])
def test_too_many_rows_are_an_error(unet, batch, rows):
    one = erasure()
    with torch.no_grad(), attach(unet.module, one):
        one.begin(batch.rows, 0.0)
        with pytest.raises(ErasureError, match=f"called with {rows} rows where 4 of 4"):
            unet(*make_batch(range(rows)).arguments)
        with pytest.raises(ErasureError, match="no sampling step announced"):
            unet(*batch.arguments)


def test_left_out_unconditional_rows_are_fine(unet):
    one, batch = erasure(), make_batch((0, 1))
    with torch.no_grad(), attach(unet.module, one):
        one.begin((0, 1, None, None), 0.0)
        unet(*batch.arguments)
        one.begin((0, 1, None, None), 0.1)
        unet(*batch.arguments)
    one.finish()


def test_missed_conditional_rows_are_an_error(unet):
    one, batch = erasure(), make_batch((0,))
    with torch.no_grad(), attach(unet.module, one):
        one.begin((0, 1, None), 0.0)
        unet(*batch.arguments)
        with pytest.raises(ErasureError, match="1 conditional rows"):
            one.finish()


def test_a_unet_that_is_never_called_is_an_error():
    with pytest.raises(ErasureError, match="never called"):
        erasure().finish()


def test_no_conditional_row_is_an_error():
    with pytest.raises(ErasureError, match="none of the 2"):
        erasure().begin((None, None), 0.0)


def test_attention_that_is_bypassed_is_an_error(unet, batch):
    skipped = unet.cross_attention[0]
    bypass = type("Bypass", (torch.nn.Module,), {"forward": lambda self, x, *a, **k: torch.zeros_like(x)})()
    one = erasure()
    for parent in unet.module.modules():
        if getattr(parent, "attn2", None) is skipped:
            with attach(unet.module, one), pytest.raises(ErasureError, match="of the"):
                parent.attn2 = bypass
                run(unet, batch, one)
            parent.attn2 = skipped
            return
    raise AssertionError("no attn2 was found")


def test_a_custom_unet_forward_is_an_error(unet, batch):
    one = erasure()
    unet.module.forward = lambda sample, *args, **kwargs: sample
    with attach(unet.module, one), pytest.raises(ErasureError, match=r"^0 of the \d+ cross-attention layers ran"):
        one.begin(batch.rows, 0.0)
        unet.module(batch.latents, batch.timesteps, batch.context)


def test_a_unet_whose_forward_is_called_directly_is_an_error(unet, batch):
    one = erasure()
    with attach(unet.module, one):
        one.begin(batch.rows, 0.0)
        with torch.no_grad(), pytest.raises(ErasureError, match="forward directly"):
            unet.module.forward(*batch.arguments)


def test_a_rearranged_batch_is_an_error(unet, batch):
    """Some extensions fold tiles into the batch inside the UNet: then rows cannot be told apart."""
    one, layer = erasure(), unet.cross_attention[0]
    plain = type(layer).forward

    def tiled(x, *args, **kwargs):
        halves = [value.repeat(2, 1, 1) for value in (x, *args)]
        named = {key: v.repeat(2, 1, 1) if isinstance(v, torch.Tensor) else v for key, v in kwargs.items()}
        return plain(layer, *halves, **named)[: len(x)]

    layer.forward = tiled
    with attach(unet.module, one), pytest.raises(ErasureError, match="saw 8 rows in a UNet call of 4"):
        run(unet, batch, one)


def test_dropout_and_wrapped_linears(batch):
    """to_out's dropout is not applied to the term; LoRA-style wrappers count for K*, V*, Q and W_o."""

    class Lora(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.linear = linear
            self.down = torch.nn.Linear(linear.in_features, 2, bias=False).requires_grad_(False)
            self.up = torch.nn.Linear(2, linear.out_features, bias=False).requires_grad_(False)

        def forward(self, x):
            return self.linear(x) + 0.5 * self.up(self.down(x))

    torch.manual_seed(3)
    wrapped = build_ldm()
    merged = copy.deepcopy(wrapped)
    for layer, plain in zip(wrapped.cross_attention, merged.cross_attention, strict=True):
        for part in ("to_q", "to_k", "to_v"):
            lora = Lora(getattr(layer, part))
            setattr(layer, part, lora)
            getattr(plain, part).weight.data += 0.5 * lora.up.weight @ lora.down.weight
        lora = layer.to_out[0] = Lora(layer.to_out[0])
        plain.to_out[0].weight.data += 0.5 * lora.up.weight @ lora.down.weight
    outputs = []
    for unet in (wrapped, merged):
        one = erasure(WINE)
        with attach(unet.module, one):
            outputs.append(run(unet, batch, one))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_finds_all_layers_and_only_cross_attention(unet):
    found = find_cross_attention(unet.module)
    assert [layer.module for layer in found] == unet.cross_attention
    assert all(layer.heads == 2 for layer in found)


def test_refuses_models_without_cross_attention():
    with pytest.raises(UnsupportedModelError, match="Sequential has no cross-attention"):
        find_cross_attention(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_refuses_joint_attention():
    found = pytest.importorskip("diffusers.models.attention_processor", reason=not_run.DIFFUSERS)
    processor = found.JointAttnProcessor2_0()
    joint = found.Attention(16, heads=2, dim_head=8, added_kv_proj_dim=16, context_pre_only=False, processor=processor)
    with pytest.raises(UnsupportedModelError, match="SD3"):
        find_cross_attention(torch.nn.ModuleDict({"attn": joint}))


# -- the adapter's probe ------------------------------------------------


class Spy(Adapter):
    """An adapter that keeps what it was given."""

    def scales(self, inputs, rows, tokens):
        self.seen.append(inputs)
        return super().scales(inputs, rows, tokens)


def spy(inputs: int, reading: Reading = PAPER) -> Spy:
    torch.manual_seed(2)
    adapter = Spy(AdapterInfo("width-24", inputs, ("knife",), (-4.0, 0.0), reading)).eval()
    adapter.seen = []
    return adapter


def heads_of(unet) -> int:
    return sum(module.heads for module in unet.cross_attention)


def test_adapter_sees_the_first_steps_means(unet, batch):
    """They equal those of the literal maps at stock attention, layer by layer in the order in which layers run."""
    from literal import LiteralGIE

    table = torch.zeros(2, 2)
    with torch.no_grad(), LiteralGIE(unet.cross_attention, [(WINE.states, 2, table)], batch.rows) as gie:
        gie.step(unet, *batch.arguments)
    adapter = spy(len(unet.cross_attention))
    one = Erasure([Target(WINE, adapter)])
    with attach(unet.module, one):
        run(unet, batch, one)
    assert len(gie.means) == 2 * len(unet.cross_attention)
    for number, (image, _, means) in enumerate(gie.means):
        torch.testing.assert_close(adapter.seen[0][image, number // 2], means.mean(0), atol=1e-6, rtol=1e-5)


def test_scale_is_predicted_once_per_image(unet, batch):
    adapter = spy(len(unet.cross_attention))
    one = Erasure([Target(KNIFE, adapter)], strength=2)
    with attach(unet.module, one):
        run(unet, batch, one)
        (first,) = adapter.seen
        scales = [one.scales[image][0].clone() for image in (0, 1)]
        run(unet, batch, one)
    assert len(adapter.seen) == 1
    assert [torch.equal(one.scales[image][0], scales[image]) for image in (0, 1)] == [True, True]
    torch.testing.assert_close(torch.stack(scales), 2 * adapter.scales(first, 2, 1))


def test_every_head_at_the_same_noise(unet, batch):
    """What is read is the same as from a batch that has this noise at t = T, whatever the image's own state."""
    from literal import LiteralGIE

    adapter = spy(heads_of(unet), Reading(per_head=True, noise=3))
    one = Erasure([Target(WINE, adapter)])
    with attach(unet.module, one):
        run(unet, batch, one)
    latents, timesteps, context = batch.arguments
    noise = torch.randn(1, *latents.shape[1:], generator=torch.Generator().manual_seed(3)).expand_as(latents)
    with torch.no_grad(), LiteralGIE(unet.cross_attention, [(WINE.states, 2, torch.zeros(2, 2))], batch.rows) as gie:
        gie.step(unet, noise, torch.full_like(timesteps, 999), context)
    for image in (0, 1):
        expected = torch.cat([means for number, _, means in gie.means if number == image])  # [inputs, n]
        torch.testing.assert_close(adapter.seen[0][image], expected, atol=1e-6, rtol=1e-5)


def test_images_of_one_prompt_are_read_once(unet, batch):
    """At the same noise for all, rows that are told the same need one row of the UNet, and all get what it gives."""
    latents, timesteps, context = batch.arguments
    images = [row for row, image in enumerate(batch.rows) if image is not None]
    same = context.clone()
    same[images] = context[images[0]]
    sizes, found = [], []
    for prompts in (same, context):
        adapter = spy(heads_of(unet), Reading(per_head=True, noise=3))
        one = Erasure([Target(WINE, adapter)])
        with torch.no_grad(), attach(unet.module, one):
            counting = unet.cross_attention[0].register_forward_hook(lambda m, args, out: sizes.append(len(out)))
            one.begin(batch.rows, 0.0)
            unet(latents, timesteps, prompts)
            counting.remove()
        found.append(adapter.seen[0])
    assert sizes == [1, len(batch.rows), len(images), len(batch.rows)]
    torch.testing.assert_close(found[0][1], found[0][0], atol=0, rtol=0)
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-5)


def test_rows_differ_by_anything_that_is_theirs():
    context, mask = torch.zeros(3, 5, 2), torch.zeros(3, 1)
    assert UNetCall((context,), {"more": [mask], "flag": 3}).distinct_rows() == ([0], [0, 0, 0])
    mask[1] = 1
    assert UNetCall((context,), {"more": [mask]}).distinct_rows() == ([0, 1], [0, 1, 0])
    context[2, 4, 1] = 1
    assert UNetCall((context,), {"more": [{"mask": mask}]}).distinct_rows() == ([0, 1, 2], [0, 1, 2])


def test_inpainting_keeps_its_mask_at_the_same_noise():
    latents, timesteps = torch.randn(2, 9, 8, 8), torch.tensor([300.0, 300.0])
    call = UNetCall((latents,), {"timesteps": timesteps}).at_noise(5)
    (changed,), kwargs = call.args, call.kwargs
    assert torch.equal(changed[:, 4:], latents[:, 4:])
    assert torch.equal(changed[0, :4], changed[1, :4])
    assert kwargs["timesteps"].tolist() == [999.0, 999.0]
    with pytest.raises(ErasureError, match="without timesteps"):
        UNetCall((latents,), {}).at_noise(5)


@pytest.mark.parametrize(("noise", "read"), [(3, 2), (None, 1)])
def test_a_prompt_that_changes_on_the_way_is_read_again(unet, batch, noise, read):
    """Prompt editing brings the concept in after the first step; at the images' own noise nothing can be read then."""
    adapter = spy(len(unet.cross_attention), Reading(noise=noise))
    adapter.out.bias.data.fill_(-1.5)
    one = Erasure([Target(KNIFE, adapter), Target(WINE, FixedScale(-1))])
    latents, timesteps, context = batch.arguments
    with torch.no_grad(), attach(unet.module, one):
        for step, now in enumerate((context, context, context.flip(0) * 2, context.flip(0) * 2)):
            one.begin(batch.rows, step / 4)
            unet(latents, timesteps, now)
    assert len(adapter.seen) == read
    strongest = torch.stack([adapter.scales(inputs, 2, 1) for inputs in list(adapter.seen)]).amin(0)  # [2, n]
    for image in (0, 1):
        assert torch.equal(one.scales[image][0], strongest[image])
        assert one.scales[image][1].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(("changed", "read"), [(False, 1), (True, 2)])
def test_what_was_read_goes_on_in_another_erasure(unet, batch, changed, read):
    """Hooks that are put on once more for the same model and pass read nothing again; for others they do."""
    adapter = spy(heads_of(unet), Reading(True, 3))
    first, second = (Erasure([Target(KNIFE, adapter)]) for _ in range(2))
    with attach(unet.module, first):
        run(unet, batch, first)
    second.go_on_from(first, changed)
    with attach(unet.module, second):
        run(unet, batch, second)
    assert len(adapter.seen) == read
    assert all(torch.equal(second.scales[row][0], first.scales[row][0]) for row in (0, 1))


def test_an_image_gets_the_same_scale_alone_and_in_a_batch(unet, batch):
    adapter = spy(len(unet.cross_attention))
    together, alone = Erasure([Target(KNIFE, adapter)]), Erasure([Target(KNIFE, adapter)])
    with torch.no_grad(), attach(unet.module, together):
        together.begin(batch.rows, 0.0)
        unet(*batch.arguments)
    with torch.no_grad(), attach(unet.module, alone):
        alone.begin((1,), 0.0)
        unet(*(value[1:2] for value in batch.arguments))
    torch.testing.assert_close(alone.scales[1][0], together.scales[1][0], atol=1e-5, rtol=1e-5)


def test_an_adapter_for_another_architecture_is_refused(unet):
    with (
        pytest.raises(AdapterError, match="trained on width-24 with 70"),
        attach(unet.module, Erasure([Target(KNIFE, spy(70))])),
    ):
        pass
    assert hooks_of(unet.module) == 0


# -- recording and options ------------------------------------------------


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_recording_changes_nothing_and_sums_up(unet, batch, concept_pass):
    plain, watched = erasure(scale=0), AttentionRecorder()
    with attach(unet.module, plain):
        expected = run(unet, batch, plain)
    one = erasure(WINE, scale=0, recorder=watched, concept_pass=concept_pass)
    with attach(unet.module, one):
        assert torch.equal(run(unet, batch, one), expected)
        run(unet, batch, one)
    assert watched.resolutions(0, 0) == [64, 16]
    average = watched.average(0, 1, 64)
    assert average.shape == (64,)
    assert 0 < average.min() <= average.max() <= 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": -1}, "strength"),
        ({"strength": 3.1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": "2"}, "strength"),
        ({"start": -0.1}, "start"),
        ({"end": 1.1}, "end"),
        ({"start": 0.5, "end": 0.5}, "below end"),
        ({"start": True}, "start"),
        ({"concept_pass": "both"}, "'fused', 'separate'"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(OptionError, match=says):
        erasure(**options)


@pytest.mark.parametrize("value", [0.1, -20.1, float("nan"), float("-inf"), "-3", None, True])
def test_bad_scales(value):
    with pytest.raises(OptionError, match="scale"):
        FixedScale(value)


def test_no_concept():
    with pytest.raises(OptionError, match="no concept"):
        Erasure([])


def test_a_prompt_is_compared_by_what_it_says(unet, batch):
    """The same tensor need not be compared; what was written into it counts, and an equal one is the same."""
    adapter = spy(len(unet.cross_attention), Reading(noise=3))
    one = Erasure([Target(KNIFE, adapter)])
    latents, timesteps, context = batch.arguments
    context = context.clone()
    read = []
    with torch.no_grad(), attach(unet.module, one):
        for step, change in enumerate((lambda c: c, lambda c: c, torch.clone, lambda c: c.mul_(2))):
            one.begin(batch.rows, step / 4)
            unet(latents, timesteps, change(context))
            read.append(len(adapter.seen))
    assert read == [1, 1, 1, 2]


def test_contexts_of_different_lengths_are_refused():
    short = EncodedConcept(KNIFE.concept, KNIFE.states[:50], KNIFE.tokens)
    with pytest.raises(ErasureError, match="lengths 50 and 77"):
        Erasure([Target(short, FixedScale(-1)), Target(WINE, FixedScale(-1))])


def test_a_call_that_raised_leaves_nothing_for_the_next_one(unet, batch):
    """A host that goes on past the hooks of the UNet would be given what was planned for other rows."""

    def fail(*unused):
        raise RuntimeError

    one, layer = erasure(), unet.cross_attention[0]
    with attach(unet.module, one) as session:
        handle = layer.register_forward_pre_hook(fail)
        one.begin(batch.rows, 0.0)
        with pytest.raises(RuntimeError), torch.no_grad():
            unet(*batch.arguments)
        handle.remove()
        assert session._runner.running is None
        with pytest.raises(ErasureError, match="outside a call"), torch.no_grad():
            unet.module.forward(*batch.arguments)


def test_reading_beside_an_erasure_leaves_it_as_it_is(unet, batch):
    one = erasure()
    with attach(unet.module, one):
        expected = run(unet, batch, one)
        read_attention(unet.module, [WINE], Reading(True, 3), batch.arguments)
        assert torch.equal(run(unet, batch, one), expected)
    one.finish()


def test_inputs_are_kept_no_longer_than_their_layer_runs(unet, batch):
    one, found = erasure(), []
    with attach(unet.module, one) as session:
        last = unet.cross_attention[-1]
        handle = last.register_forward_hook(lambda *_: found.append(len(session._runner._capture._inputs)))
        run(unet, batch, one)
        handle.remove()
    assert found == [0]


def test_settings_and_their_fields_are_not_given_together():
    with pytest.raises(TypeError, match="strength"):
        erasure(settings=ErasureSettings(), strength=2.0)
    with pytest.raises(OptionError, match="strength is None"):
        ErasureSettings(strength=None)
