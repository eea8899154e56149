"""The glue to the WebUI, on a fake of the host's names: right rows, nothing left behind, no way around an error."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from fake_host import Conditioner, Denoiser, Host, ImageRNG, Processing, Runner, Sampling, infotext, make_model
from test_hooks import hooks_of

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach
from lib_gie.errors import AdapterError, ConceptError, ErasureError, GieError, OptionError, UnsupportedModelError
from lib_gie.hosts.protocol import SamplingHost
from lib_gie.options import FIXED

ON = [True, "knife", FIXED, 1.0, -3.0]


@pytest.fixture
def host(monkeypatch, tmp_path):
    """The fake host with the extension installed, as at the WebUI's start."""
    for name in [name for name in sys.modules if name.startswith("lib_gie.hosts.webui")]:
        monkeypatch.delitem(sys.modules, name)
    fake = Host(monkeypatch, tmp_path)
    guard = importlib.import_module("lib_gie.hosts.webui.guard")
    generation = importlib.import_module("lib_gie.hosts.webui.sampling.erased_generation")
    guard.install()
    guard.install()  # Reload UI
    fake.callbacks.append(generation.on_cfg_denoiser)
    fake.stack = generation.stack
    yield fake
    assert generation.stack() == []
    assert hooks_of(fake.shared.sd_model.model.diffusion_model) == 0
    for name in [name for name in sys.modules if name.startswith("lib_gie.hosts.webui")]:
        del sys.modules[name]


def by_hand(host, sampling: Sampling, rows, scale=-3.0, step=0) -> torch.Tensor:
    """The first step's UNet output when the core is used without any glue."""
    model = host.shared.sd_model
    encoder = model.cond_stage_model
    ids = encoder.tokenize(["knife"])[0]
    states = encoder.process_tokens([[0, *ids, *[1] * (76 - len(ids))]], None)[0]  # [77, D]
    erasure = Erasure([Target(EncodedConcept(Concept("knife"), states, ["knife"] * len(ids)), FixedScale(scale))])
    p = Processing(host, sampling=sampling)
    quiet = SimpleNamespace(shared=host.shared, outputs=[], announce=lambda params: erasure.begin(rows, 0.0))
    x = ImageRNG((4, 8, 8), p.all_seeds[: p.batch_size]).next()
    with torch.no_grad(), attach(model.model.diffusion_model, erasure):
        Denoiser(quiet, p, sampling)(x)
    return quiet.outputs[step]


def test_off_is_untouched(host):
    plain = Processing(host)
    _, stock = host.process([False, "knife"])
    expected = torch.stack(stock.images)
    assert plain.extra_generation_params == {}
    _, off = host.process([])
    assert torch.equal(torch.stack(off.images), expected)
    assert host.shared.sd_model.cond_stage_model.encoded == []
    _, zero = host.process([True, "knife", FIXED, 1.0, 0.0])
    assert torch.equal(torch.stack(zero.images), expected)
    _, on = host.process(ON)
    assert not torch.equal(torch.stack(on.images), expected)


PATTERNS = {
    "joined": (Sampling(), [(0, 0), (1, 0), None, None]),
    "split": (Sampling(split=(2, 2)), [(0, 0), (1, 0), None, None]),
    "one by one": (Sampling(split=(1, 1, 1, 1)), [(0, 0), (1, 0), None, None]),
    "mixed chunk": (Sampling(parts=((1.0, 1.0), (1.0,)), split=(2, 2, 1)), [(0, 0), (0, 1), (1, 0), None, None]),
    "AND": (Sampling(parts=((1.0, 0.5), (1.0, 2.0))), [(0, 0), (0, 1), (1, 0), (1, 1), None, None]),
    "negative part": (Sampling(parts=((1.0, -0.5), (1.0,))), [(0, 0), None, (1, 0), None, None]),
    "no unconditional rows": (Sampling(skip_uncond=frozenset({0})), [(0, 0), (1, 0), None, None]),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_rows(host, pattern):
    sampling, rows = PATTERNS[pattern]
    expected = by_hand(host, sampling, rows)
    host.process(ON, sampling=sampling)
    assert torch.equal(host.outputs[0], expected)
    assert host.errors == []


def test_unconditional_rows_stay_bit_identical(host):
    host.process([])
    plain = host.outputs[0]
    host.process(ON)
    assert torch.equal(host.outputs[0][2:], plain[2:])
    assert not torch.equal(host.outputs[0][:2], plain[:2])


@pytest.mark.parametrize("cond_scale", [0.0, 0.5, -7.0])
def test_cfg_scale_at_which_the_negative_prompt_draws(host, cond_scale):
    with pytest.raises(ErasureError, match="CFG scale"):
        host.process(ON, sampling=Sampling(cond_scale=cond_scale))
    host.process([], sampling=Sampling(cond_scale=cond_scale))
    host.process(ON, sampling=Sampling(cond_scale=1.0))


def test_prompt_weights_that_leave_the_drawing_to_the_negative_prompt(host):
    with pytest.raises(ErasureError, match="negative prompt"):
        host.process(ON, sampling=Sampling(parts=((0.01,), (1.0,))))


def test_infotext_has_each_images_scale(host, tmp_path):
    torch.manual_seed(0)
    adapter = Adapter(AdapterInfo("width-24", 7, ("knife",), (-19.0, 0.0)))
    with torch.no_grad():
        adapter.out.bias.fill_(-9)
        adapter.input_std.fill_(2e-3)
    folder = tmp_path / "growth-inhibitors"
    save_adapter(adapter, folder / "mine.safetensors")
    p, done = host.process([True, "knife", "mine"], n_iter=2)
    scales = [text["GIE scale"] for text in done.infotexts]
    assert len(set(scales)) == 4
    assert [infotext(p, index, p.all_seeds)["GIE scale"] for index in range(4)] == scales
    assert infotext(p, 0, p.seeds, use_main_prompt=True)["GIE scale"] == scales[0]
    assert done.infotexts[0]["GIE adapter"].startswith("mine [")
    _, alone = host.process([True, "knife", "mine"], sampling=Sampling(parts=((1.0,),)))
    assert alone.infotexts[0]["GIE adapter"] == done.infotexts[0]["GIE adapter"]


def test_infotext_of_a_reused_object_is_cleared(host):
    p, _ = host.process(ON)
    assert p.extra_generation_params["GIE concepts"] == "knife"
    p.script_args = [0, False, "knife"]
    host.processing.process_images_inner(p)
    assert p.extra_generation_params == {}


def test_hires_passes(host):
    first_plain, second_plain = _hires(host, [])
    both = _hires(host, ON)
    first_only = _hires(host, [*ON, 0.0, 1.0, "fused", "first only"])
    second_only = _hires(host, [*ON, 0.0, 1.0, "fused", "second only"])
    assert not torch.equal(both[0], first_plain)
    assert torch.equal(first_only[0], both[0])
    assert not torch.equal(first_only[1], both[1])
    assert torch.equal(second_only[0], first_plain)
    assert not torch.equal(second_only[1], second_plain)
    with pytest.raises(ErasureError, match="only the second pass"):
        host.process([*ON, 0.0, 1.0, "fused", "second only"])


def _hires(host, args):
    host.process(args, enable_hr=True)
    return host.outputs[0], host.outputs[2]


def test_model_changes_are_followed(host):
    """A refiner, or sd_checkpoints_limit: another object in the middle of sampling, without any event."""
    other, first = make_model("other"), host.shared.sd_model
    with torch.no_grad():
        for value in other.model.diffusion_model.parameters():
            value.mul_(1.1)

    def swap(params):
        host.shared.sd_model = other if params.denoiser.step else first

    host.callbacks.insert(0, swap)
    host.process([])
    plain = host.outputs[1]
    host.process(ON)
    assert not torch.equal(host.outputs[1][:2], plain[:2])
    assert hooks_of(first.model.diffusion_model) == hooks_of(other.model.diffusion_model) == 0
    host.shared.sd_model = first


def test_weights_that_are_replaced_in_place_are_followed(host):
    """A refiner of the same config: the same objects with other weights."""
    model = host.shared.sd_model
    changed = {name: value * 1.1 for name, value in model.model.diffusion_model.state_dict().items()}

    def swap(params):
        if params.denoiser.step == 1:
            model.model.diffusion_model.load_state_dict(changed)
            model.sd_checkpoint_info = SimpleNamespace(name_for_extra="refiner")

    host.callbacks.insert(0, swap)
    folded = []
    folds = sys.modules["lib_gie.core.folds"]
    original = folds.LayerConcepts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "LayerConcepts", lambda *args: folded.append(1) or original(*args))
        host.process(ON)
    assert len(folded) == 2 * 7


def test_concepts_are_encoded_once_while_nothing_changes(host):
    encoder = host.shared.sd_model.cond_stage_model
    host.process(ON)
    once = len(encoder.encoded)
    assert once > 0
    host.process(ON, n_iter=2)
    host.process([True, "knife:0.5"])  # the weight is not the text's
    assert len(encoder.encoded) == once


def _write(host, patch):
    with torch.no_grad():
        host.shared.sd_model.cond_stage_model.weight.mul_(2)


def _replace(host, patch):
    host.shared.sd_model.cond_stage_model.weight = torch.nn.Parameter(torch.tensor(2.0))


def _clip_skip(host, patch):
    host.shared.opts.CLIP_stop_at_last_layers = 2


def _lora(host, patch):
    used = {"lora": [SimpleNamespace(items=["style", "0.7"])]}
    patch.setattr(Processing, "extra_network_data", used, raising=False)


def _checkpoint(host, patch):
    host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another")


def _clip_l_skip(host, patch):
    host.shared.opts.sdxl_clip_l_skip = True


@pytest.mark.parametrize("change", [_write, _replace, _clip_skip, _clip_l_skip, _lora, _checkpoint])
def test_concepts_are_encoded_anew_when_something_changes(host, change, monkeypatch):
    encoder = host.shared.sd_model.cond_stage_model
    host.process(ON)
    once = len(encoder.encoded)
    change(host, monkeypatch)
    host.process(ON)
    assert len(encoder.encoded) == 2 * once


def test_a_unet_call_outside_the_denoiser(host):
    def call(p):
        host.shared.sd_model.model.diffusion_model(
            torch.randn(2, 4, 8, 8), torch.tensor([1, 1]), torch.randn(2, 77, 24)
        )

    with pytest.raises(ErasureError, match="no sampling step announced"):
        host.process(ON, before_sampling=call)
    host.process([], before_sampling=call)


def test_a_sampler_that_never_asks(host, monkeypatch):
    monkeypatch.setattr(Processing, "one_pass", lambda self, x: x)
    with pytest.raises(ErasureError, match="no sampling step reached"):
        host.process(ON)
    host.shared.state.interrupted = True
    host.process(ON)


def test_replaced_sample_is_caught(host):
    """A script that puts its own function into p.sample after the hooks' one and never calls it."""
    p = Processing(host, ON)
    original = p.sample

    def replace(*args):
        p.sample = lambda **kwargs: original(**kwargs)
        return original.__self__.host.inner(p)

    host.inner = importlib.import_module("fake_host").process_images_inner
    plain = Processing(host, [])
    expected = host.processing.process_images_inner(plain).images
    guard = sys.modules["lib_gie.hosts.webui.guard"]
    done = guard._process(replace, p)
    assert not torch.equal(torch.stack(done.images), torch.stack(expected))
    p = Processing(host, ON)
    with pytest.raises(ErasureError, match="without a sampling step"):
        guard._process(lambda p: SimpleNamespace(images=[1]), p)


def test_a_custom_unet(host, monkeypatch):
    unet = host.shared.sd_model.model.diffusion_model
    monkeypatch.setattr(unet, "forward", lambda x, timesteps, context=None: x, raising=False)
    with pytest.raises(ErasureError, match="0 of the 7 cross-attention layers ran"):
        host.process(ON)
    monkeypatch.undo()


def test_a_batch_that_cannot_be_begun_in_a_callback_fails_the_unet_call(host):
    """The WebUI swallows what a callback raises: where p.sample was replaced a batch begins in one."""
    generation, plans, requests = (
        importlib.import_module(f"lib_gie.hosts.webui.{name}")
        for name in ("sampling.erased_generation", "request.plans", "request.parsing")
    )
    request = requests.read_request([{"concepts": "knife", "adapter": FIXED, "keep_composition": True}])
    running = generation.Generation(Processing(host), [plans.make_plan(request, host.shared.sd_model)])
    running.on_step(SimpleNamespace(denoiser=SimpleNamespace()))
    assert running.has_failed
    with pytest.raises(ErasureError, match="without erasure"):
        host.shared.sd_model.model.diffusion_model(torch.zeros(1, 4, 8, 8), torch.zeros(1))
    with pytest.raises(ErasureError, match="without erasure"):
        running.check()
    running.detach()


def test_the_webui_keeps_the_contracts(host):
    """Its loaded model is a sampling host; AUTOMATIC1111's and Forge's classes have what the contract says."""
    room = "lib_gie.hosts.webui"
    loaded = importlib.import_module(f"{room}.sampling.loaded_model").LoadedModel(Processing(host))
    assert isinstance(loaded, SamplingHost)
    assert loaded.unet is host.shared.sd_model.model.diffusion_model
    assert loaded.encode(Concept("knife")).count == 1
    contract, a1111, forge = (importlib.import_module(f"{room}.host.{name}") for name in ("contract", "a1111", "forge"))
    wanted = [name for name in vars(contract.WebUI) if not name.startswith("_")]
    for kind in (a1111.AUTOMATIC1111, forge.Forge):
        assert [name for name in wanted if not hasattr(kind, name)] == []


def test_an_exception_of_ours_at_a_later_step(host, monkeypatch):
    """The host swallows what callbacks raise; the UNet call must not go on with rows of the step before."""
    webui = sys.modules["lib_gie.hosts.webui.host.chosen"].HOST
    original = webui.step_rows

    def breaks(p, params):
        if params.denoiser.step:
            raise ZeroDivisionError("a defect")
        return original(p, params)

    monkeypatch.setattr(webui, "step_rows", breaks)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        host.process(ON)
    monkeypatch.setattr(webui, "step_rows", original)
    host.process(ON)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ([True, ""], ConceptError, "empty"),
        ([True, "knife", "nowhere"], AdapterError, "there is no adapter 'nowhere'"),
        ([True, "knife " * 76], ConceptError, "has 76 tokens"),
        ([True, "knife", FIXED, float("nan")], OptionError, "strength is nan"),
    ],
)
def test_bad_requests_end_the_generation(host, args, error, message):
    with pytest.raises(error, match=message) as failure:
        host.process(args)
    assert failure.value.status_code == 422
    assert str(failure.value) in failure.value.detail
    host.process(ON)


def test_unsupported_models_are_named(host):
    model = host.shared.sd_model
    model.is_sd3 = True
    with pytest.raises(UnsupportedModelError, match="tiny is SD3; growth inhibitors work on"):
        host.process(ON)
    host.process([])
    model.is_sd3 = False
    model.cond_stage_model = torch.nn.Identity()
    with pytest.raises(UnsupportedModelError, match="tiny is a model with the text encoder Identity"):
        host.process(ON)


def test_an_adapter_for_another_architecture(host, tmp_path):
    folder = tmp_path / "growth-inhibitors"
    for base, inputs in (("sdxl", 70), ("width-24", 8)):
        save_adapter(Adapter(AdapterInfo(base, inputs, ("knife",), (-9.0, 0.0))), folder / f"{base}.safetensors")
    with pytest.raises(AdapterError, match="trained on sdxl, and this model is width-24"):
        host.process([True, "knife", "sdxl"])
    with pytest.raises(AdapterError, match="8 inputs, and this model gives 7"):
        host.process([True, "knife", "width-24"])


# -- SDXL and InstructPix2Pix ------------------------------------------------


@pytest.fixture
def sdxl(host):
    """A model whose text encoders are two in a conditioner."""
    model = host.shared.sd_model
    model.is_sdxl = True
    model.cond_stage_model = model.conditioner = Conditioner()
    return model


def test_both_encoders_of_sdxl_make_the_states(host, sdxl):
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    first, second, _ = sdxl.conditioner.embedders
    encoded = model.encode_text(Concept("a knife"), sdxl)
    parts = []
    for encoder in (first, second):
        ids = encoder.tokenize(["a knife"])[0]
        parts.append(encoder.process_tokens([[0, *ids, *[1] * 74]], None)[0])  # [77, D of its own]
    assert torch.equal(encoded.states, torch.cat(parts, -1))
    assert encoded.states.shape == (77, 24)
    assert encoded.tokens == ["<99>", "<527>"]
    plain, erased = host.process([])[1], host.process(ON)[1]
    assert not torch.equal(torch.stack(plain.images), torch.stack(erased.images))


def test_an_encoder_with_more_tokens_says_how_many_there_are(host, sdxl):
    """The states of all of the concept's positions are its own."""
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    sdxl.conditioner.embedders[1].tokenize = lambda texts: [[7, 8, 9]]
    encoded = model.encode_text(Concept("knife"), sdxl)
    assert encoded.tokens == ["<7>", "<8>", "<9>"]
    assert sdxl.conditioner.embedders[0].encoded[-1][:3] == [0, 2 + sum(map(ord, "knife")), 1]
    assert sdxl.conditioner.embedders[1].encoded[-1][:5] == [0, 7, 8, 9, 1]


def test_hooks_that_move_sdxls_encoders_are_called(host, sdxl):
    """--medvram puts them on the conditioner, which encoding a concept goes past."""
    moved = []
    sdxl.conditioner.register_forward_pre_hook(lambda module, args: moved.append(module))
    importlib.import_module("lib_gie.hosts.webui.host.model").encode_text(Concept("knife"), sdxl)
    assert moved == [sdxl.conditioner]


@pytest.mark.parametrize("split", [None, (2, 2, 2), (4, 2)])
def test_only_rows_with_the_prompt_are_erased_from_when_a_picture_is_edited(host, split):
    host.shared.sd_model.cond_stage_key = "edit"
    sampling = Sampling(image_cfg_scale=1.5, split=split)
    host.process([], sampling=sampling)
    plain = host.outputs[0]
    host.process(ON, sampling=sampling)
    assert torch.equal(host.outputs[0], by_hand(host, sampling, [0, 1, None, None, None, None]))
    assert torch.equal(host.outputs[0][2:], plain[2:])
    assert all(not torch.equal(host.outputs[0][row], plain[row]) for row in (0, 1))


def test_an_edit_model_at_image_cfg_scale_1_has_the_usual_rows(host):
    host.shared.sd_model.cond_stage_key = "edit"
    sampling = Sampling(image_cfg_scale=1.0, parts=((1.0, 0.5), (1.0,)))
    host.process(ON, sampling=sampling)
    assert torch.equal(host.outputs[0], by_hand(host, sampling, [(0, 0), (0, 1), (1, 0), None, None]))


@pytest.mark.parametrize("key", ["txt", "edit"])
def test_rows_that_do_not_add_up_are_refused(host, key):
    """Two rows per image without the prompt where one was expected, and the other way round."""
    host.shared.sd_model.cond_stage_key = key
    sampling = Sampling(image_cfg_scale=1.5)
    if key == "edit":
        sampling = Sampling()
        host.callbacks.insert(0, lambda params: setattr(params.denoiser, "image_cfg_scale", 1.5))
    with pytest.raises(ErasureError, match=r"where [46] were expected"):
        host.process(ON, sampling=sampling)
    host.process([], sampling=sampling)


def test_automatic_says_where_no_adapter_fits(host, tmp_path):
    save_adapter(
        Adapter(AdapterInfo("width-24", 7, ("wine",), (-9.0, 0.0))), tmp_path / "growth-inhibitors" / "w.safetensors"
    )
    p, done = host.process([True, "knife, wine"])
    lacking, old, *doubts = p.comments
    assert "no adapter for 'knife' fits this model (width-24), so the fixed scale -3 was used" in lacking
    assert "the adapter w does not say what it was fitted on" in old
    assert not doubts  # the prompt names the knife alone
    assert done.infotexts[0]["GIE adapters"].startswith("Fixed scale; w [")
    assert not host.process([True, "knife", FIXED])[0].comments


# -- nested generations and scripts ------------------------------------------------


def test_nested_generation_inherits_and_does_not_disturb(host):
    """ADetailer: process_images within process_images, with other scripts."""
    inner = []

    def nested(p):
        if not inner:
            before = list(host.outputs)
            inner.append(host.processing.process_images_inner(Processing(host, scripts=Runner())).images)
            host.outputs[:] = before

    _, alone = host.process(ON, n_iter=2)
    expected = torch.stack(alone.images)
    _, outer = host.process(ON, n_iter=2, after_image=nested)
    assert torch.equal(torch.stack(outer.images), expected)
    assert torch.equal(torch.stack(inner[0]), expected[:2])


def test_nested_generation_of_an_unerased_one_stays_unerased(host):
    inner = []

    def nested(p):
        inner.append(host.processing.process_images_inner(Processing(host, scripts=Runner())).images)

    _, plain = host.process([], after_image=nested)
    assert torch.equal(torch.stack(inner[0]), torch.stack(plain.images))


def test_scripts_that_make_their_own_processing_objects(host):
    _, erased = host.process(ON)
    runner = host.runner_class(SimpleNamespace(erases_concepts=True, args_from=1, args_to=6))
    runner.selected = lambda p: host.processing.process_images_inner(Processing(host, scripts=Runner()))
    done = runner.run(Processing(host, ON, scripts=runner), 1, *ON)
    assert torch.equal(torch.stack(done.images), torch.stack(erased.images))
    with pytest.raises(GieError):
        runner.run(Processing(host, [True, ""], scripts=runner), 1)


# -- enforcement ------------------------------------------------


@pytest.mark.parametrize("args", [[], [False, "x"], [True, "knife", FIXED, 0.0], [True, "knife", FIXED, 1.0, 0.0]])
def test_enforced_concepts_cannot_be_skipped(host, args):
    _, wanted = host.process([True, "knife"])
    host.shared.cmd_opts.gie_enforce = "knife"
    p, done = host.process(args)
    assert torch.equal(torch.stack(done.images), torch.stack(wanted.images))
    assert done.infotexts[0]["GIE enforced"] == "knife"
    assert "GIE enforced scale" not in done.infotexts[0]
    assert "GIE concepts" not in p.extra_generation_params


def test_an_enforced_scale_is_shown_where_the_admin_says_so(host):
    host.shared.cmd_opts.gie_enforce = "knife"
    host.shared.opts.gie_enforced_show_scale = True
    assert host.process([])[1].infotexts[0]["GIE enforced scale"] == "-3"


def test_a_users_concepts_come_on_top(host):
    host.shared.opts.gie_enforced_concepts = "knife"
    _, enforced = host.process([])
    p, both = host.process([True, "wine, knife:0.1", FIXED, 1.0, -2.0])
    (note,) = [comment for comment in p.comments if "always erases" in comment]
    assert "always erases 'knife' in the way that its admin chose" in note
    assert not torch.equal(torch.stack(both.images), torch.stack(enforced.images))
    assert both.infotexts[0]["GIE concepts"] == "wine"
    assert both.infotexts[0]["GIE scale"] == "-2"


def test_an_enforced_text_that_cannot_be_read_stops_everything(host):
    host.shared.cmd_opts.gie_enforce = "knife:x"
    with pytest.raises(ErasureError, match="admin must correct") as failure:
        host.process([])
    assert failure.value.status_code == 500


def test_previews_show_erased_latents_only(host):
    """Also where the option is changed while the image is made, and the option itself stays as the user has it."""

    def change(p):
        host.shared.opts.live_preview_content = "Negative prompt"

    for content in ("Prompt", "Negative prompt"):
        host.shared.opts.live_preview_content = content
        host.previews.clear()
        host.process(ON, before_sampling=change)
        assert all(torch.equal(seen, made[:2]) for seen, made in zip(host.previews, host.outputs, strict=True))
    assert host.shared.opts.live_preview_content == "Negative prompt"
    host.previews.clear()
    host.process([])
    assert all(torch.equal(seen, made[2:]) for seen, made in zip(host.previews, host.outputs, strict=True))


@pytest.mark.parametrize("medvram", [False, True])
def test_a_unet_that_is_called_outside_a_sampling_is_brought_to_the_device(host, medvram):
    """--medvram moves it in a hook of the module around it, which training does not call."""
    around, brought = torch.nn.Module(), []
    around.diffusion_model = host.shared.sd_model.model.diffusion_model
    around.register_forward_pre_hook(lambda module, args: brought.append(module))
    model = SimpleNamespace(model=around, cond_stage_model=host.shared.sd_model.cond_stage_model, lowvram=medvram)
    found = importlib.import_module("lib_gie.hosts.webui.host.model").callable_unet(model, torch.zeros(1, 4, 8, 8))
    assert found is around.diffusion_model
    assert brought == [around] * medvram


def test_token_merging_of_a_job_is_put_on_again_after_a_calibration(host, monkeypatch):
    """A calibration is made without the job's, which the WebUI puts on before all batches."""
    a1111 = importlib.import_module("lib_gie.hosts.webui.host.a1111")
    model, told = host.shared.sd_model, []
    host.shared.opts.tiling = True
    monkeypatch.setattr(a1111.sd_hijack.model_hijack, "apply_circular", lambda on: told.append(on), raising=False)
    merge = lambda model, ratio: told.append(ratio)  # noqa: E731
    monkeypatch.setattr(a1111.sd_models, "apply_token_merging", merge, raising=False)
    with a1111.AUTOMATIC1111().as_sampled(SimpleNamespace(get_token_merging_ratio=lambda: 0.0), model):
        assert told == [True, 0.0]
    a1111.AUTOMATIC1111().as_in_job(SimpleNamespace(get_token_merging_ratio=lambda: 0.5), model)
    assert told == [True, 0.0, 0, 0.5]


# -- which rows are drawn ------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "scale", "says"),
    [
        (((-1.0, 0.0),), -4.0, "CFG scale -4"),  # two signs that turn each other around
        (((1.0,),), float("nan"), "no finite number"),
        (((1.0,),), float("inf"), "no finite number"),
        (((float("inf"),),), 4.0, "no finite number"),
        (((1.0,),), 0.99, "below 1"),
        (((2.0,),), 0.5, "below 1"),  # as a multiplier of the CFG scale leaves it
        (((-0.001, 0.05),), 30.0, "first part"),
        (((1.0,), (-0.1, 1.2)), 4.0, "first part"),
    ],
)
def test_what_draws_an_image_must_be_known(host, parts, scale, says):
    with pytest.raises(ErasureError, match=says):
        host.process(ON, sampling=Sampling(parts=parts, cond_scale=scale))


@pytest.mark.parametrize("way", ["skip_early_cond", "s_min_uncond"])
def test_the_first_part_in_the_negative_prompts_place(host, way):
    """In steps without the negative prompt the first part must not be pushed away by those that follow."""
    sampling = Sampling(parts=((1.0, 2.0, 3.0),))
    host.process(ON, sampling=sampling)
    if way == "skip_early_cond":
        host.shared.opts.skip_early_cond = 0.5
    else:
        sampling.s_min_uncond = 1.5
    with pytest.raises(ErasureError, match="add up to 5"):
        host.process(ON, sampling=sampling)
    host.process(ON, sampling=Sampling(parts=((1.0, 0.5, 0.5),)))


def test_a_range_in_which_no_step_lies_is_an_error(host):
    """Then nothing is erased, and the image would look as if it had been."""
    with pytest.raises(ErasureError, match=r"no sampling step lies between start 0\.4 and end 0\.6"):
        host.process([*ON, 0.4, 0.6], sampling=Sampling(steps=3))
    host.process([*ON, 0.4, 0.7], sampling=Sampling(steps=3))


# -- sampled once more, outside of p.sample ------------------------------------------------


def _sampled_again(p):
    with torch.no_grad():
        p.one_pass(torch.zeros(2, 4, 8, 8))


def test_nothing_stays_behind_where_something_samples_between_two_batches(host):
    unet = host.shared.sd_model.model.diffusion_model
    plain = torch.stack(host.process([])[1].images)
    host.process(ON, n_iter=2, after_image=_sampled_again)
    assert hooks_of(unet) == 0
    assert torch.equal(torch.stack(host.process([])[1].images), plain)


def test_what_is_refused_between_two_batches_ends_the_job(host):
    def refused(p):
        if p.iteration == 0:
            p.sampling = dataclasses.replace(p.sampling, cond_scale=-7.0)
            with suppress(Exception):
                _sampled_again(p)
            p.sampling = dataclasses.replace(p.sampling, cond_scale=4.0)

    with pytest.raises(ErasureError, match="CFG scale"):
        host.process(ON, n_iter=2, after_image=refused)
    assert hooks_of(host.shared.sd_model.model.diffusion_model) == 0
    host.process([])


def test_value_projection_erases_by_its_own_usual_scale(host):
    """Adapters, and notes on lacking ones, are about growth inhibitors."""
    p, done = host.process([{"concepts": "knife", "rule": "value projection"}])
    written = infotext(p, 0, p.all_seeds)
    assert (written["GIE rule"], written["GIE scale"], written["GIE fixed scale"]) == ("value projection", "-1", "-1")
    assert "adapter" not in done.comments


def test_an_adapter_is_refused_for_value_projection(host):
    with pytest.raises(OptionError, match="adapters are fitted on growth inhibitors"):
        host.process([{"concepts": "knife", "rule": "value projection", "adapter": "knife"}])
