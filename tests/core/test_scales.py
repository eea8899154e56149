"""When an adapter's answer is not enough: what a prompt names and emphasises, what is outside, floors, what changed."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import BUILDERS, make_concept

from lib_gie.core.call import UNetCall
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import Reading
from lib_gie.core.scales import resolved as answers
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, load_adapter, save_adapter
from lib_gie.core.scales.input_range import fit_range
from lib_gie.core.scales.scale_rules import (
    MISREAD,
    MOST_EMPHASIS,
    NAMED,
    OUTSIDE,
    FixedScale,
    GivenScales,
    Guarded,
    PromptFacts,
    Replacement,
)
from lib_gie.core.session import attach
from lib_gie.errors import AdapterError, OptionError
from lib_gie.named import repeated_emphasis, times_in, times_named, words_of
from lib_gie.options import DEFAULT_SCALE, LOWEST_SCALE

KNIFE, WINE = make_concept("knife", 1, seed=5), make_concept("red wine", 2, seed=6)
FREE, NAMING = PromptFacts(frozenset()), PromptFacts(frozenset({"knife"}))
SIZE = (8, 8)


def adapter_of(inputs: int, answer: float = 0.0, reading: Reading | None = None) -> Adapter:
    """Its answer is the same whatever it reads."""
    adapter = Adapter(AdapterInfo("width-24", inputs, ("knife",), (-9.0, 0.0), reading or Reading(True, 3))).eval()
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
        adapter.out.bias.fill_(answer)
    return adapter


def resolved(rule, facts, *, read=None, context=None, size=SIZE, strength=1.0, floor=0.0, misread=()) -> list[float]:
    """w of each row for the concept knife."""
    erasure = Erasure([Target(KNIFE, rule, floor)], strength=strength)
    rows = range(len(facts))
    erasure.resolved.facts = dict(zip(rows, facts, strict=True))
    context = torch.randn(len(facts), 77, 24) if context is None else context
    erasure.resolved.set_scales(list(rows), context, size, {0: read}, misread)
    return [round(float(erasure.scales[row][0].max()), 4) for row in rows]


# -- own words ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "concept", "named"),
    [
        ("a Knife, on blue", "knife", True),
        ("a knife's edge", "knife", True),
        ("a kni\u200bfe", "knife", True),
        ("a \uff2b\uff2e\uff29\uff26\uff25", "knife", True),
        ("a jackknife", "knife", False),
        ("a painting by Van  Gogh", "van gogh", True),
        ("gogh van", "van gogh", False),
        ("oil, painting", "oil painting", True),
        ("Straße", "STRASSE", True),
        ("", "knife", False),
    ],
)
def test_a_concepts_words(text, concept, named):
    assert bool(times_named(text, concept)) is named


def test_runs_of_tokens():
    assert times_in([1, 2, 3, 2, 3], [2, 3]) == 2
    assert not times_in([1, 2, 3], [3, 2])
    assert not times_in([1, 2], [])
    assert words_of("x_y 3") == ["x", "y", "3"]


@pytest.mark.parametrize(("layers", "fixed"), [(None, -3.0), (1, -3.0), (2, -6.0), (3, -12.0), (9, -20.0)])
def test_the_fixed_scale_grows_with_the_distance_to_the_fitted_clip_skip(layers, fixed):
    adapter = Adapter(AdapterInfo("sd1", 16, ("knife",), (-4.0, 0.0), conditions={"clip_skip": 1}))
    assert Guarded(adapter, -3.0).at_clip_skip(layers).fixed == fixed
    unknown = Adapter(AdapterInfo("sd1", 16, ("knife",), (-4.0, 0.0)))
    assert Guarded(unknown, -3.0).at_clip_skip(layers).fixed == -3.0


def test_a_named_concept_gets_at_least_the_fixed_scale():
    read = torch.zeros(3, 4, 1)
    rule = Guarded(adapter_of(4), -1.0)
    assert resolved(rule, [FREE, NAMING, PromptFacts()], read=read) == [0.0, -1.0, -1.0]
    assert resolved(Guarded(adapter_of(4, -2.5), -1.0), [FREE, NAMING], read=read[:2]) == [-2.5, -2.5]


def test_naming_often_counts_as_emphasis():
    assert times_named("knife knife, a Knife", "knife") == 3
    assert repeated_emphasis(0) == repeated_emphasis(1) == 1.0
    assert 1.8 < repeated_emphasis(150) < 2


# -- outside ------------------------------------------------


def inputs_around(count: int, seed: int = 0) -> torch.Tensor:
    """Prompts in two groups, and two inputs that are the same for all: float32 [count, 6]."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(count, 4, generator=generator) * 0.01 + 0.1
    spread[::2] += 0.05
    return torch.cat([spread, torch.full((count, 2), 0.2)], 1)


def test_what_is_like_no_training_prompt_is_outside():
    known = fit_range(inputs_around(400), inputs_around(100, seed=1))
    assert known.is_outside(inputs_around(200, seed=2)[..., None]).float().mean() < 0.05
    far, shifted, broken = inputs_around(3, seed=3).clone().unbind(0)
    far, shifted, broken = far * 3, shifted + torch.tensor([0, 0, 0, 0, 0.1, 0]), broken * float("nan")
    assert known.is_outside(torch.stack([far, shifted, broken])[..., None]).all()
    two = torch.stack([inputs_around(1, seed=4)[0], far], -1)[None]  # of two tokens one is outside
    assert known.is_outside(two).tolist() == [True]


def test_few_prompts_do_not_make_all_others_strange():
    """A few dozen prompts and many inputs: in most directions nothing is known."""
    base = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))

    def draw(count, seed):
        generator = torch.Generator().manual_seed(seed)
        return (
            torch.randn(count, 3, generator=generator) @ base * 0.02
            + 0.5
            + 0.01 * torch.randn(count, 128, generator=generator)
        )

    known = fit_range(draw(45, 1), draw(15, 2))
    assert known.is_outside(draw(500, 3)[..., None]).float().mean() < 0.1
    assert known.is_outside((draw(5, 4) + 0.3)[..., None]).all()


def test_outside_gets_at_least_the_fixed_scale():
    adapter = adapter_of(6)
    adapter.range = fit_range(inputs_around(400), inputs_around(100, seed=1))
    read = torch.stack([inputs_around(1, seed=2)[0], inputs_around(1, seed=2)[0] * 3])[..., None]
    assert resolved(Guarded(adapter, -1.0), [FREE, FREE], read=read) == [0.0, -1.0]
    assert Guarded(adapter, -1.0).doubts(read, [True, False], False) == [NAMED, OUTSIDE]
    assert Guarded(adapter, -1.0).doubts(read[:1], [False], True) == [MISREAD]


def test_a_file_keeps_range_size_and_conditions(tmp_path):
    adapter = adapter_of(6, reading=Reading(True, 3, (8, 12)))
    adapter.info.conditions.update(clip_skip=2, cfg=4.5)
    adapter.range = fit_range(inputs_around(400), inputs_around(100, seed=1))
    save_adapter(adapter, tmp_path / "a.safetensors")
    found = load_adapter(tmp_path / "a.safetensors")
    assert found.reading.size == (8, 12)
    assert found.info.conditions == {"clip_skip": 2, "cfg": 4.5}
    read = inputs_around(50, seed=5)
    torch.testing.assert_close(found.range.distances(read), adapter.range.distances(read))
    assert found.weights_digest == adapter.weights_digest
    assert found.is_for("knife")
    assert not found.is_for("wine")


def test_a_file_of_an_earlier_version_says_nothing_of_its_range(tmp_path):
    save_adapter(adapter_of(6), tmp_path / "a.safetensors")
    found = load_adapter(tmp_path / "a.safetensors")
    assert found.range is None
    assert not found.is_outside(torch.full((2, 6, 1), float("nan"))).any()


@pytest.mark.parametrize("harm", ["shape", "nan", "negative", "missing", "too many"])
def test_a_damaged_range_is_refused(tmp_path, harm):
    adapter = adapter_of(6)
    adapter.range = fit_range(inputs_around(400), inputs_around(100, seed=1))
    parts = {name: getattr(adapter.range, name) for name in ("mean", "spread", "directions", "variances", "bound")}
    if harm == "shape":
        parts["mean"] = torch.zeros(5)
    elif harm == "nan":
        parts["mean"] = torch.full((6,), float("nan"))
    elif harm == "negative":
        parts["bound"] = torch.tensor([-1.0])
    elif harm == "too many":
        parts |= {"directions": torch.zeros(200, 6), "variances": torch.ones(201)}
    adapter.range = type(adapter.range)(**parts)
    save_adapter(adapter, tmp_path / "a.safetensors")
    if harm == "missing":
        with safe_open(tmp_path / "a.safetensors", "pt") as file:
            metadata, kept = file.metadata(), {key: file.get_tensor(key) for key in file.keys() if "bound" not in key}
        save_file(kept, tmp_path / "a.safetensors", metadata)
    with pytest.raises(AdapterError, match="the range of its inputs"):
        load_adapter(tmp_path / "a.safetensors")


# -- emphasis ------------------------------------------------


@pytest.mark.parametrize(("emphasis", "w"), [(0.5, -1.0), (1.0, -1.0), (1.5, -2.25), (2.0, -4.0)])
def test_w_grows_with_emphasis(emphasis, w):
    facts = PromptFacts(frozenset(), emphasis)
    assert resolved(FixedScale(-1), [facts]) == [w]
    assert resolved(Guarded(adapter_of(4, -1.0), -0.5), [facts], read=torch.zeros(1, 4, 1)) == [w]


def test_emphasis_alone_leads_no_further_than_the_lowest_scale():
    assert resolved(FixedScale(-3), [PromptFacts(None, 3.5)]) == [LOWEST_SCALE]
    assert resolved(FixedScale(-18), [PromptFacts(None, 2.0)], strength=2.0) == [-36.0]


def test_more_emphasis_than_can_be_erased_is_refused():
    with pytest.raises(OptionError, match=f"up to {MOST_EMPHASIS:g}"):
        resolved(FixedScale(-1), [PromptFacts(None, MOST_EMPHASIS + 0.1)])
    read = torch.zeros(1, 4, 1)
    free = PromptFacts(frozenset(), MOST_EMPHASIS + 0.1)
    assert resolved(Guarded(adapter_of(4), -1.0), [free], read=read) == [0.0]  # nothing is to be erased


def test_what_the_context_was_multiplied_by_counts_as_emphasis():
    """The WebUI's "Original" keeps the mean: where other words are made weak, all of the context gets strong."""
    plain = torch.randn(2, 154, 24)
    plain[:, ::77] = KNIFE.states[0]
    context = plain * torch.tensor([1.0, 2.0])[:, None, None]
    assert resolved(FixedScale(-1), [FREE, FREE], context=context) == [-1.0, -4.0]
    later = plain.clone()
    later[1, 77:] *= 1.5  # every chunk of 75 tokens is multiplied on its own
    assert resolved(FixedScale(-1), [FREE, FREE], context=later) == [-1.0, -2.25]
    weak = plain * 0.5
    assert resolved(FixedScale(-1), [FREE, FREE], context=weak) == [-1.0, -1.0]


# -- floors ------------------------------------------------


def test_a_floor_holds_whatever_weight_and_strength_say():
    weak = EncodedConcept(type(KNIFE.concept)("knife", 0.1), KNIFE.states, KNIFE.tokens)
    for concept, strength in ((KNIFE, 1.0), (weak, 1.0), (KNIFE, 0.0)):
        erasure = Erasure([Target(concept, Guarded(adapter_of(4), -1.0), -2.0)], strength=strength)
        erasure.resolved.facts = {0: FREE}
        erasure.resolved.set_scales([0], torch.randn(1, 77, 24), SIZE, {0: torch.zeros(1, 4, 1)})
        assert erasure.scales[0][0].tolist() == [-2.0]
    assert resolved(FixedScale(-3), [FREE], floor=-2.0) == [-3.0]
    with pytest.raises(OptionError, match="floor"):
        Target(KNIFE, FixedScale(-1), 1.0)


# -- what changes on the way ------------------------------------------------


@pytest.fixture(params=["ldm", "diffusers"])
def unet(request):
    return BUILDERS[request.param]()


def run(unet, erasure, latents, context, steps=1, progress=0.0):
    with torch.no_grad():
        for _ in range(steps):
            erasure.begin([0, None], progress)
            unet(latents, torch.full((2,), 500), context)


class Counting(Adapter):
    """Counts how often it was asked, and answers a bit stronger each time."""

    asked = 0

    def scales(self, inputs, rows, tokens):
        self.asked += 1
        self.inputs = inputs
        return torch.full((rows, tokens), -1.0 / self.asked)


def counting(unet, reading: Reading) -> Counting:
    heads = [module.heads for module in unet.cross_attention]
    return Counting(AdapterInfo("width-24", reading.count(heads), ("knife",), (-9.0, 0.0), reading)).eval()


CONTEXT = torch.randn(2, 77, 24, generator=torch.Generator().manual_seed(1))
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def test_weights_that_are_written_to_are_noticed(unet):
    """K*, U and w are made from them; w never gets weaker."""
    adapter = counting(unet, Reading(True, 3))
    erasure = Erasure([Target(KNIFE, adapter)])
    key = unet.cross_attention[0].to_k.weight
    with attach(unet.module, erasure) as session:
        run(unet, erasure, LATENTS, CONTEXT, steps=2)
        before = session._runner.folds.concepts(0, (KNIFE,), 0.0, CONTEXT).keys.clone()
        assert adapter.asked == 1
        with torch.no_grad():
            key.mul_(1.5)
        run(unet, erasure, LATENTS, CONTEXT, steps=2)
        assert adapter.asked == 2
        assert not torch.equal(session._runner.folds.concepts(0, (KNIFE,), 0.0, CONTEXT).keys, before)
        with torch.no_grad():
            key.div_(1.5)
    assert erasure.scales[0][0].tolist() == [-1.0]


def test_scales_that_are_given_are_asked_for_once(unet):
    """The WebUI puts LoRAs into the weights as the layers first run, which is seen at the next call."""
    erasure = Erasure([Target(KNIFE, GivenScales(torch.tensor([-1.5])))])
    with attach(unet.module, erasure):
        run(unet, erasure, LATENTS, CONTEXT)
        with torch.no_grad():
            unet.cross_attention[0].to_k.weight.mul_(1.0)
        run(unet, erasure, LATENTS, CONTEXT, steps=2)
    assert erasure.scales[0][0].tolist() == [-1.5]


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_another_size_is_read_again(unet, size):
    """At one size for all it says the same, unless another extension counts on the image's."""
    adapter = counting(unet, Reading(True, 3, size))
    erasure = Erasure([Target(KNIFE, adapter)])
    with attach(unet.module, erasure):
        run(unet, erasure, LATENTS, CONTEXT)
        first = adapter.inputs
        run(unet, erasure, torch.nn.functional.interpolate(LATENTS, (12, 8)), CONTEXT, steps=2)
    assert adapter.asked == 2
    assert torch.equal(adapter.inputs, first) is (size is not None)


def test_every_size_is_read_at_the_adapters_own(unet):
    reading = Reading(True, 3, (8, 8))
    found = []
    for latents in (LATENTS, torch.randn(2, 4, 16, 8)):
        adapter = counting(unet, reading)
        erasure = Erasure([Target(KNIFE, adapter)])
        with attach(unet.module, erasure):
            run(unet, erasure, latents, CONTEXT)
        found.append(adapter.inputs)
    torch.testing.assert_close(found[0], found[1])


def test_what_cannot_be_read_at_the_adapters_size_counts_as_doubtful(unet):
    """Another extension's forward counts on the image's size."""
    adapter = counting(unet, Reading(True, 3, (8, 8)))
    adapter.scales = lambda inputs, rows, tokens: torch.zeros(rows, tokens)
    inner = unet.module.forward
    scales = []
    for latents in (LATENTS, torch.randn(2, 4, 16, 8)):
        erasure = Erasure([Target(KNIFE, Guarded(adapter, -1.0))])
        erasure.resolved.facts = {0: FREE}
        unet.module.forward = lambda *args, **kwargs: inner(*args, **kwargs)
        try:
            with attach(unet.module, erasure):
                run(unet, erasure, latents, CONTEXT)
        finally:
            del unet.module.forward
        scales.append(erasure.scales[0][0].tolist())
    assert scales == [[0.0], [-1.0]]
    assert erasure.replacements(0)[0].reason == MISREAD


def test_facts_that_change_are_looked_at_again():
    erasure = Erasure([Target(KNIFE, Guarded(adapter_of(4), -1.0))])
    context, read = torch.randn(1, 77, 24), {0: torch.zeros(1, 4, 1)}
    erasure.resolved.facts = {0: FREE}
    erasure.resolved.set_scales([0], context, SIZE, read)
    assert erasure.resolved.unresolved([0], context, SIZE) is None
    erasure.resolved.facts = {0: NAMING}
    assert erasure.resolved.unresolved([0], context, SIZE) == [0]
    erasure.resolved.set_scales([0], context, SIZE, read)
    assert erasure.scales[0][0].tolist() == [-1.0]
    erasure.resolved.facts = {0: FREE}
    erasure.resolved.set_scales([0], context, SIZE, read)
    assert erasure.scales[0][0].tolist() == [-1.0]  # the stronger stays


def test_emphasis_that_comes_later_counts_for_fixed_scales_too():
    erasure = Erasure([Target(KNIFE, FixedScale(-1)), Target(make_concept("wine", 1, seed=7), FixedScale(-2))])
    context = torch.randn(1, 77, 24)
    erasure.resolved.set_scales([0], context, SIZE, {0: None, 1: None})
    erasure.resolved.facts = {0: PromptFacts(None, 2.0)}
    assert erasure.resolved.unresolved([0], context, SIZE) == []
    erasure.resolved.set_scales([0], context, SIZE, {})
    assert [scales.tolist() for scales in erasure.scales[0]] == [[-4.0], [-8.0]]


def test_the_usual_fixed_scale_of_a_family():
    from lib_gie.demo.fixed_scale import default_scale, load_fixed_scale

    assert default_scale("sd1") == DEFAULT_SCALE
    assert default_scale("gie-demo") == load_fixed_scale()


def test_noise_of_another_size_takes_the_mask_along():
    """An inpainting model's mask and picture are brought to the size that is read at."""
    latents = torch.randn(2, 9, 16, 8)
    latents[:, 4] = 1.0  # the mask is everywhere
    call = UNetCall((latents,), {"timesteps": torch.ones(2)}).at_noise(5, (8, 8))
    (changed,) = call.args
    assert changed.shape == (2, 9, 8, 8)
    torch.testing.assert_close(changed[:, 4], torch.ones(2, 8, 8))
    (same,) = UNetCall((torch.randn(1, 4, 8, 8),), call.kwargs).at_noise(5).args
    assert torch.equal(changed[0, :4], same[0])


def test_what_else_has_the_images_size():
    latents, residual = torch.randn(2, 4, 8, 8), torch.randn(2, 16, 8, 8)
    assert not UNetCall((latents, torch.ones(2), torch.randn(2, 77, 24)), {"y": torch.ones(2, 5)}).has_pictures
    assert UNetCall((latents, torch.ones(2)), {"down_block_additional_residuals": (residual,)}).has_pictures


# -- what is told of an answer ------------------------------------------------


def fitted_for(concepts=("knife",), label_range=(-2.0, 0.0), lift=(1.0, 0.0)) -> Adapter:
    return Adapter(AdapterInfo("sd1", 16, concepts, label_range, lift=lift))


@pytest.mark.parametrize(
    ("adapter", "answer", "presence"),
    [
        (fitted_for(), -2.0, 1.0),
        (fitted_for(), -0.5, 0.25),
        (fitted_for(), 0.0, 0.0),
        (fitted_for(lift=(2.0, -1.0)), -1.0, 1.0),  # from the weakest label with the concept on it is there in full
        (fitted_for(lift=(2.0, -1.0)), -1.5, 1.0),
        (fitted_for(("wine",)), -2.0, None),  # chosen by hand for another concept, it tells nothing of this one
        (fitted_for(label_range=(0.0, 0.0)), 0.0, None),
    ],
)
def test_an_adapters_answer_tells_how_present_its_concept_is(adapter, answer, presence):
    found = answers._presence(adapter, "knife", torch.tensor([answer, answer]))
    assert found == presence
    assert str(found) != "-0.0"


def test_where_the_fixed_scale_took_its_place_only_a_name_tells_of_presence():
    rule = Guarded(fitted_for(), -1.0, -1.0)
    row = torch.tensor([-0.25])
    assert answers._doubted(rule, "knife", row, "").presence == 0.125
    named, unknown = (answers._doubted(rule, "knife", row, doubt) for doubt in (NAMED, "something else"))
    assert (named.presence, unknown.presence) == (1.0, None)
    assert named.replaced == Replacement(-1.0, "adapter", NAMED)
    assert str(named.replaced).endswith(f"took the place of the adapter's weaker answer: {NAMED}")
    assert named.base.tolist() == unknown.base.tolist() == [-1.0]
    assert answers._doubted(rule, "knife", torch.tensor([-1.7]), NAMED).replaced is None


def test_a_doubt_goes_where_a_later_answer_is_stronger():
    why = Replacement(-1.0, "adapter", "why")
    doubted = answers._Found(torch.tensor([-1.0, -1.0]), why, 1.0)
    stronger, partly = (answers._Found(torch.tensor(values), None, 0.5) for values in ([-1.7, -1.7], [-1.7, -0.5]))
    assert doubted.or_stronger(stronger).replaced is stronger.or_stronger(doubted).replaced is None
    assert doubted.or_stronger(partly).replaced is why
    assert doubted.or_stronger(answers._Found(torch.tensor([-0.5, -0.5]))).replaced is why
    assert doubted.or_stronger(stronger).presence == 1.0
