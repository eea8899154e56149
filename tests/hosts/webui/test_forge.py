"""Forge: its rows on its own sampling code (GIE_FORGE_DIR: its checkout; run in its Python), its model on a fake."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from types import SimpleNamespace

import not_run
import pytest
import torch
from tiny import CONTEXT_WIDTH, make_concept, randomise

from lib_gie.core.call import UNetCall
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.rows import RowLedger
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import is_inner_call
from lib_gie.errors import ErasureError
from lib_gie.hosts.erased_sampling import ErasedSampling
from lib_gie.hosts.webui.host.forge import Forge, step_rows
from lib_gie.randomness import undrawn

SMALL = {
    "in_channels": 4, "model_channels": 32, "out_channels": 4, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
    "num_heads": 2, "use_spatial_transformer": True, "transformer_depth": [1, 1], "context_dim": CONTEXT_WIDTH,
    "use_checkpoint": False, "legacy": False, "dims": 2, "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
}  # fmt: skip


def a_denoiser(parts=((1.0,), (1.0,)), cond_scale=5.0, hr_cfg=5.0, is_hr_pass=False):
    batch = [[SimpleNamespace(weight=weight) for weight in image] for image in parts]
    return SimpleNamespace(
        sampler=SimpleNamespace(
            sampler_extra_args={"cond": SimpleNamespace(batch=batch), "cond_scale": cond_scale},
        ),
        p=SimpleNamespace(is_hr_pass=is_hr_pass, hr_cfg=hr_cfg),
    )


def a_call(rows, *marks):
    """A UNet call of so many rows with these marks."""
    return UNetCall((torch.zeros(rows, 4, 8, 8),), {"transformer_options": {"cond_or_uncond": list(marks)}})


def test_rows_come_from_the_last_part_to_the_first():
    step = step_rows(a_denoiser(((1.0, 0.5), (1.0, 0.5))), 2)
    assert step.names == [(0, 0), (1, 0), (0, 1), (1, 1), None, None]
    assert step.order(a_call(4, 1, 0)) == [None, None, (0, 1), (1, 1)]
    assert step.order(a_call(2, 0)) == [(0, 0), (1, 0)]


def test_parts_that_the_host_drops_or_that_push_away():
    assert step_rows(a_denoiser(((1.0, 0.5), (1.0,))), 2).names == [(0, 0), (1, 0), None, None]
    assert step_rows(a_denoiser(((1.0, -0.3),)), 1).names == [(0, 0), None, None]


def test_calls_that_no_step_announced():
    step = step_rows(a_denoiser(), 2)
    for kwargs in ({}, {"transformer_options": {}}):
        with pytest.raises(ErasureError, match="unknown which are conditional"):
            step.order(UNetCall((torch.zeros(4, 4, 8, 8),), kwargs))
    with pytest.raises(ErasureError, match="chunks of 2"):
        step.order(a_call(6, 1, 0))
    step.order(a_call(2, 0))
    with pytest.raises(ErasureError, match="more conditional rows"):
        step.order(a_call(2, 0))
    with pytest.raises(ErasureError, match="3 images with 2 prompts"):
        step_rows(a_denoiser(), 3)


def test_cfg_scales_at_which_the_negative_prompt_draws():
    with pytest.raises(ErasureError, match="CFG scale"):
        step_rows(a_denoiser(cond_scale=0.5), 2)
    with pytest.raises(ErasureError, match="CFG scale"):
        step_rows(a_denoiser(hr_cfg=0.5, is_hr_pass=True), 2)
    step_rows(a_denoiser(hr_cfg=0.5), 2)
    step_rows(a_denoiser(cond_scale=1), 2)


@pytest.mark.parametrize(
    ("options", "guidance"),
    [
        ({}, 5.0),
        ({"cond_scale": 2, "parts": ((1.0,), (7.5,))}, 15.0),  # Forge weighs all images as the last
        ({"cond_scale": 2, "parts": ((3.0, -2.0),)}, 6.0),
        ({"cond_scale": 2, "hr_cfg": 8, "is_hr_pass": True}, 8.0),
        ({"cond_scale": 2, "hr_cfg": 8}, 2.0),
    ],
    ids=str,
)
def test_guidance(options, guidance):
    assert Forge().guidance(SimpleNamespace(denoiser=a_denoiser(**options))) == guidance


def test_rows_are_brought_forward_only_while_they_are_left():
    ledger, latents = RowLedger(), torch.zeros(2, 4, 8, 8)  # [B, C, H, W]
    ledger.begin([0, 1, None, None])
    ledger.bring_forward([None, 1])
    assert ledger.take(latents, None) == (None, 1)
    with pytest.raises(ErasureError, match="not all are left"):
        ledger.bring_forward([1])
    ledger = RowLedger()
    ledger.begin([0, None])
    ledger.bring_forward([None])
    ledger.take(latents[:1], None)
    with pytest.raises(ErasureError, match="never reached"):
        ledger.finish()


# -- the model, on fakes ------------------------------------------------


def a_model(**attributes):
    unet, text_encoder = torch.nn.Identity(), torch.nn.Linear(2, 2)
    database = SimpleNamespace(fixes=None)
    engine = SimpleNamespace(text_encoder=text_encoder, embeddings=database)
    patcher = SimpleNamespace(model=SimpleNamespace(diffusion_model=unet))
    objects = SimpleNamespace(unet=patcher)
    return SimpleNamespace(text_processing_engine=engine, forge_objects=objects, **attributes)


def test_where_forge_keeps_its_parts():
    host, model = Forge(), a_model()
    engine = model.text_processing_engine
    assert host.text_encoder(model) is engine
    assert len(host.text_weights(model)) == 2
    assert host.vectors_of(engine) is host.inversions_of(engine) is engine.embeddings
    assert host.around_unet(model) is model.forge_objects.unet.model
    assert host.is_loaded(model)
    assert not host.is_loaded(SimpleNamespace())


def test_kinds_of_models_on_forge():
    host = Forge()
    assert host.unsupported_kind(a_model()) is None
    assert "Forge" in host.unsupported_kind(a_model(is_sdxl=True))
    assert host.unsupported_kind(a_model(is_sd3=True)) == "SD3"


def test_patches_are_taken_off_and_put_on_again(monkeypatch):
    """LoRAs are patches of the model: the images without erasure must not leave those of Hires. fix behind."""
    loaded, bare, with_loras = [], SimpleNamespace(), SimpleNamespace()
    model = a_model(
        forge_objects_original=SimpleNamespace(shallow_copy=lambda: bare),
        forge_objects_after_applying_lora=SimpleNamespace(shallow_copy=lambda: with_loras),
    )
    sd_models = SimpleNamespace(forge_model_reload=lambda: loaded.append(True))
    monkeypatch.setitem(sys.modules, "modules", SimpleNamespace(sd_models=sd_models))
    Forge().reload_model(SimpleNamespace(sd_model=model))
    assert loaded
    assert model.forge_objects is bare
    Forge().with_networks(model)
    assert model.forge_objects is with_loras


# -- on Forge's own code ------------------------------------------------


@pytest.fixture(scope="module")
def forge():
    """Forge's sampling function and a small random model in its own classes."""
    folder = os.environ.get("GIE_FORGE_DIR")
    if not folder:
        pytest.skip(not_run.FORGE)
    argv, sys.argv = sys.argv, ["forge", "--always-cpu"]
    before = list(sys.path)
    sys.path[:0] = [folder, os.path.join(folder, "packages_3rdparty")]
    try:
        from backend.modules.k_model import KModel
        from backend.modules.k_prediction import Prediction
        from backend.nn.unet import IntegratedUNet2DConditionModel
        from backend.operations import using_forge_operations
        from backend.patcher.unet import UnetPatcher
        from backend.sampling import condition, sampling_function
    finally:
        sys.path[:], sys.argv = before, argv
    with using_forge_operations(device=torch.device("cpu"), dtype=torch.float32, manual_cast_enabled=True):
        unet = IntegratedUNet2DConditionModel.from_config(SMALL)
    _fill(unet)
    memory = SimpleNamespace(signal_empty_cache=False, get_free_memory=None)  # as far as a step asks for it
    unet.storage_dtype = unet.computation_dtype = torch.float32
    model = KModel(unet, None, k_predictor=Prediction(prediction_type="epsilon"))
    patcher = UnetPatcher(model, torch.device("cpu"), torch.device("cpu"))
    return SimpleNamespace(
        unet=unet, model=patcher.model, sampling=sampling_function, condition=condition, memory=memory
    )


def _fill(unet: torch.nn.Module) -> None:
    """Forge's linear layers have no weights until some are loaded."""
    for name, module in unet.named_modules():
        if hasattr(module, "dummy"):
            state = {"weight": torch.zeros(module.out_features, module.in_features)}
            if name.rpartition(".")[2] not in ("to_q", "to_k", "to_v"):
                state["bias"] = torch.zeros(module.out_features)
            module.load_state_dict(state)
    for value in unet.parameters():
        torch.nn.init.ones_(value)  # Forge leaves them as the memory was
    randomise(unet)


def predict(forge, parts, room, targets=None, monkeypatch=None):
    """A step with two images: (conditional, unconditional) predictions, the contexts that each row came with.

    ``room``: how many rows of the step Forge believes to fit into one call.
    """
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=generator)  # [B, 4, h, w]
    texts = torch.randn(2 * len(parts), 77, CONTEXT_WIDTH, generator=generator)  # part by part of each image
    weights = [[(image * len(parts) + number, w) for number, w in enumerate(parts)] for image in range(2)]
    cond = forge.condition.compile_weighted_conditions(texts, weights)
    uncond = forge.condition.compile_conditions(torch.randn(2, 77, CONTEXT_WIDTH, generator=generator))
    rows, seen = step_rows(a_denoiser((parts, parts)), 2), []

    def note(unet, args, kwargs):
        if not is_inner_call():
            names = seen_rows.order(UNetCall(args, kwargs))
            seen.extend(zip(names, kwargs["context"], strict=True))

    seen_rows = step_rows(a_denoiser((parts, parts)), 2)
    monkeypatch.setattr(forge.model, "memory_required", lambda shape: shape[0])
    monkeypatch.setattr(forge.sampling, "memory_management", forge.memory)
    monkeypatch.setattr(forge.memory, "get_free_memory", lambda device: room + 0.5)
    with contextlib.ExitStack() as stack:
        stack.callback(forge.unet.register_forward_pre_hook(note, with_kwargs=True).remove)
        if targets is not None:
            sampling = stack.enter_context(ErasedSampling(SimpleNamespace(unet=forge.unet, undisturbed=undrawn)))
            erasure = Erasure(targets, ledger=sampling.ledger)
            sampling.attach(erasure)
            sampling.begin_step(rows, 0.0)
        with torch.inference_mode():
            found = forge.sampling.calc_cond_uncond_batch(forge.model, cond, uncond, x, torch.tensor([5.0, 5.0]), {})
        if targets is not None:
            assert set(erasure.scales) == {name for name in rows.names if name is not None}
    for row, context in seen:
        if row is not None:
            assert torch.equal(context, texts[row[0] * len(parts) + row[1]])
    return found


@pytest.mark.parametrize("parts", [(1.0,), (1.0, 0.8), (1.0, 0.8, 0.5)])
@pytest.mark.parametrize("room", [2, 4, 100])
def test_on_forges_own_sampling(forge, parts, room, monkeypatch):
    targets = [Target(make_concept(), FixedScale(-3.0))]
    off = predict(forge, parts, 100, None, monkeypatch)
    zero = predict(forge, parts, 100, [Target(make_concept(), FixedScale(0.0))], monkeypatch)
    assert torch.equal(zero[0], off[0])
    assert torch.equal(zero[1], off[1])
    joined = predict(forge, parts, 100, targets, monkeypatch)
    on = predict(forge, parts, room, targets, monkeypatch)
    assert torch.equal(joined[1], off[1])
    assert not torch.allclose(on[0], off[0], atol=1e-3)
    assert torch.allclose(on[0], joined[0], atol=1e-4)
    assert torch.allclose(on[1], off[1], atol=1e-4)


# -- its relatives that are not supported ------------------------------------------------


@pytest.fixture
def start(monkeypatch, tmp_path, request):
    """(``start`` module, fake host) as they are where these modules can be found. Nothing of them is imported."""
    pytest.importorskip("ldm", reason=not_run.LDM)
    from fake_host import Host

    for name in request.param:
        path = tmp_path / "host" / name.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "host")
    for name in [
        name for name in sys.modules if name.startswith("lib_gie.hosts.webui") or name.split(".")[0] == "backend"
    ]:
        monkeypatch.delitem(sys.modules, name)
    host = Host(monkeypatch, tmp_path)
    host.registered = []
    callbacks = {f"callbacks_{name}": name for name in CATEGORIES}
    script_callbacks = host._module(
        "script_callbacks",
        callback_map=callbacks,
        add_callback=lambda callbacks, function, *, category, **options: host.registered.append(category),
    )
    monkeypatch.setitem(sys.modules, "modules.script_callbacks", script_callbacks)
    monkeypatch.setattr(sys.modules["modules"], "script_callbacks", script_callbacks, raising=False)
    yield importlib.import_module("lib_gie.hosts.webui.start"), host
    for name in [name for name in sys.modules if name.startswith("lib_gie.hosts.webui")]:
        del sys.modules[name]


CATEGORIES = (
    "cfg_denoiser",
    "ui_settings",
    "before_ui",
    "after_component",
    "infotext_pasted",
    "ui_tabs",
    "app_started",
)
FORGE = ("modules_forge.config", "backend.sampling.sampling_function")
KIN = ("modules_forge.config",)


@pytest.mark.parametrize("start", [()], indirect=True)
def test_the_webui_itself(start):
    module, host = start
    module.register()
    assert host.registered == list(CATEGORIES)
    assert isinstance(module.GrowthInhibitorsScript, type)


@pytest.mark.parametrize("start", [()], indirect=True)
def test_the_start_loads_nothing_that_samples(start):
    """It would take the WebUI's start longer; the first job loads it."""
    module, host = start
    module.register()
    late = {f"lib_gie.hosts.webui.{name}" for name in ("job", "request.plan", "sampling.erased_generation")}
    assert late & set(sys.modules) == set()
    host.process()
    assert late <= set(sys.modules)


@pytest.mark.parametrize("start", [FORGE], indirect=True)
def test_forge_has_everything_but_the_tab(start):
    module, host = start
    module.register()
    assert host.registered == [category for category in CATEGORIES if category != "ui_tabs"]
    assert isinstance(module.GrowthInhibitorsScript, type)


@pytest.mark.parametrize("start", [KIN], indirect=True)
def test_unknown_kin_of_forge_is_not_offered_anything(start, capsys):
    module, host = start
    module.register()
    module.register()  # Reload UI
    assert module.GrowthInhibitorsScript is None
    assert host.registered == []
    line = capsys.readouterr().err.splitlines()[0]
    assert "nothing is erased" in line
    assert "docs/COMPATIBILITY.md" in line
    assert len(host.process()[1].images) == 2


@pytest.mark.parametrize("start", [KIN], indirect=True)
@pytest.mark.parametrize("where", ["command line", "settings"])
def test_unknown_kin_of_forge_makes_no_images_where_erasing_is_enforced(start, where):
    module, host = start
    module.register()
    if where == "settings":
        host.shared.opts.gie_enforced_concepts = "knife"
    else:
        host.shared.cmd_opts.gie_enforce = "knife"
    with pytest.raises(ErasureError, match="always erases 'knife', so it makes no images") as caught:
        host.process()
    assert caught.value.status_code == 500
