"""What is known of other extensions, on the fake host: tiles, prompts within prompts, counters, swallowed errors."""

from __future__ import annotations

import functools
import importlib
import types
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from fake_host import Processing, Sampling
from test_webui_glue import ON, host  # noqa: F401  # a fixture

from lib_gie.core.rows import RowLedger
from lib_gie.errors import ErasureError
from lib_gie.options import FIXED

ZERO = [True, "knife", FIXED, 1.0, 0.0]
BEFORE = {"enabled": True, "concepts": "knife", "adapter": FIXED, "scale": -3.0}


@pytest.fixture
def extensions(host):  # noqa: F811
    return importlib.import_module("lib_gie.hosts.webui.host.other_extensions")


def images(host, args, **options):  # noqa: F811
    return torch.stack(host.process(args, **options)[1].images)


# -- tiles ------------------------------------------------


@pytest.mark.parametrize("split", [None, (2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("tiles", [2, 3])
def test_every_tile_is_erased_from(host, tiles, split):  # noqa: F811
    tiled = Sampling(tiles=tiles, split=split)
    off, zero, on = (images(host, args, sampling=tiled) for args in ([], ZERO, ON))
    assert torch.equal(zero, off)
    assert (on - off).abs().max() > 1e-3
    assert torch.equal(images(host, ON, sampling=tiled), on)
    joined = images(host, ON, sampling=Sampling(tiles=tiles))
    torch.testing.assert_close(on, joined, atol=1e-4, rtol=1e-4)


def test_calls_that_nobody_is_known_to_repeat_are_erased_from(host, extensions, monkeypatch):  # noqa: F811
    """Rows are told by their prompts, so whoever makes calls of them may repeat them."""
    tiled = Sampling(tiles=2)
    expected, off = images(host, ON, sampling=tiled), images(host, [], sampling=tiled)
    monkeypatch.setattr(extensions, "makes_tiles", lambda denoiser, model: False)
    found = images(host, ON, sampling=tiled)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - off).abs().max() > 1e-3


def test_where_the_attention_of_tiles_was_is_not_shown(host):  # noqa: F811
    with pytest.raises(ErasureError, match="untick Show attention"):
        host.process([{**BEFORE, "show_attention": True}], sampling=Sampling(tiles=2))


def test_an_interrupt_between_two_tiles_is_no_error(host, extensions):  # noqa: F811
    sampling = importlib.import_module("lib_gie.hosts.webui.sampling.batch_sampling")
    inner = sampling.BatchSampling(SimpleNamespace(is_hr_pass=False), [])

    latents, ledger = torch.zeros(2, 4, 8, 8), inner._sampling.ledger

    def make_tiles(rows: int) -> None:
        ledger.begin((0, None))
        with inner._tiles(2):
            ledger.take(latents[:rows], None)

    make_tiles(2)
    with pytest.raises(ErasureError, match="the last one had 1 rows"):
        make_tiles(1)
    ledger = inner._sampling.ledger = RowLedger()
    host.shared.state.interrupted = True
    make_tiles(1)
    ledger.finish()


# -- prompts within prompts ------------------------------------------------


def leaf(weight, conciliation=None):
    return SimpleNamespace(weight=weight, conciliation=conciliation)


def nested(weight, *children, conciliation=None):
    return SimpleNamespace(weight=weight, conciliation=conciliation, children=list(children))


def neutral(expressions, enabled=True):
    """A denoiser whose results Neutral Prompt joins."""
    state = SimpleNamespace(is_enabled=enabled, prompt_exprs=expressions)
    combine = types.FunctionType((lambda: None).__code__, {"global_state": state})
    return SimpleNamespace(combine_denoised=functools.partial(combine))


def parts(*weights):
    return [[SimpleNamespace(weight=weight) for weight in weights]]


def test_what_is_pushed_away_twice_is_drawn(extensions):
    expression = nested(1, leaf(1), nested(-0.5, leaf(1), leaf(-1), conciliation="PERP"))
    (weights,) = extensions.part_weights(neutral([expression]), parts(1, 1, -1))
    assert weights.parts == (1, -0.5, 0.5)
    assert weights.total == 1


def test_without_neutral_prompt_the_parts_weights_count(extensions):
    for denoiser in (SimpleNamespace(), neutral([nested(1, leaf(9))], enabled=False)):
        (weights,) = extensions.part_weights(denoiser, parts(1, -0.3))
        assert (weights.parts, weights.total) == ((1, -0.3), 0.7)


def test_other_parts_than_the_webuis_are_an_error(extensions):
    with pytest.raises(ErasureError, match="joins other parts"):
        extensions.part_weights(neutral([nested(1, leaf(1))]), parts(1, 1))


# -- counters ------------------------------------------------


def script(file: str, **values):
    """An always-on script of this file, with globals of its own."""
    space = {"count": 3, "pn": True}
    ui = types.FunctionType((lambda self: None).__code__, space)
    found = type("Script", (), {"ui": ui})()
    vars(found).update(filename=f"folder/{file}", **values)
    return found, space


def test_own_calls_leave_counters_alone(extensions):
    counting, space = script("negpip.py", latenti=2, hr=False)
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[counting]))
    with extensions.undisturbed(p):
        counting.latenti, counting.hr, space["count"], space["pn"] = 5, True, 19, False
    assert (counting.latenti, space["count"], space["pn"]) == (2, 3, True)
    assert counting.hr  # not a counter


def test_a_sampling_before_leaves_no_trace(extensions):
    counting, _ = script("rp.py", step=0, in_hr=False)
    other, _ = script("other.py", handle=None)
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[counting, other]))
    with extensions.as_before(p):
        counting.step, counting.in_hr, counting.log, other.handle = 8, True, {}, "kept"
    assert vars(counting) == {"filename": "folder/rp.py", "step": 0, "in_hr": False}
    assert other.handle == "kept"


def test_noise_of_a_replaced_unet_is_put_back(extensions):
    param = SimpleNamespace(latent=None)
    network = SimpleNamespace(control_params=[param])
    scripts = SimpleNamespace(alwayson_scripts=[SimpleNamespace(filename="controlnet.py", latest_network=network)])
    p, unet = SimpleNamespace(scripts=scripts, controlnet_vae_cache=None), torch.nn.Identity()
    unet.forward = unet.forward
    state = torch.get_rng_state()
    with extensions.undisturbed(p):
        param.latent, p.controlnet_vae_cache = torch.randn(2), "filled"
    assert torch.equal(torch.get_rng_state(), state)
    assert (param.latent, p.controlnet_vae_cache) == (None, None)


@pytest.mark.parametrize("wish", [{"concept_pass": "separate"}, {"keep_composition": True}])
def test_regions_drawn_from_attention_allow_no_calls_of_ours(extensions, wish):
    drawing, space = script("rp.py", active=True, mode="Prompt")
    space["reset_pmasks"] = lambda script: None
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[drawing]))
    plain = {"concept_pass": "fused", "keep_composition": False}
    extensions.check_own_calls(p, SimpleNamespace(**plain))
    with pytest.raises(ErasureError, match="Regional Prompter"):
        extensions.check_own_calls(p, SimpleNamespace(**{**plain, **wish}))
    drawing.mode = "Horizontal"
    extensions.check_own_calls(p, SimpleNamespace(**{**plain, **wish}))


@pytest.mark.parametrize(
    ("calc", "batch", "rows", "wrong"),
    [
        ("Latent", 2, [(0, 0), None, (1, 0), (1, 1), None, None], True),
        ("Latent", 2, [(0, 0), (0, 1), (1, 0), (1, 1), None, None], False),
        ("Latent", 1, [(0, 0), None, None], False),
        ("Attention", 2, [(0, 0), None, (1, 0), (1, 1), None, None], False),
    ],
)
def test_prompts_sorted_by_region(extensions, calc, batch, rows, wrong):
    sorting, _ = script("rp.py", active=True, calc=calc)
    p = SimpleNamespace(batch_size=batch, scripts=SimpleNamespace(alwayson_scripts=[sorting]))
    if not wrong:
        extensions.check_order(p, rows)
        return
    with pytest.raises(ErasureError, match="changes the order of a batch's prompts"):
        extensions.check_order(p, rows)


# -- swallowed errors ------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2])
def test_an_error_within_that_a_script_swallows_ends_the_request(host, batches):  # noqa: F811
    """The WebUI forgets what a script raises while it goes on with an image, as ADetailer does."""
    failed = []

    def redraw(p):
        if failed:
            return
        failed.append(1)
        with suppress(ErasureError):
            host.processing.process_images_inner(Processing(host, sampling=Sampling(cond_scale=0.5)))

    with pytest.raises(ErasureError, match="CFG scale"):
        host.process(ON, after_image=redraw, n_iter=batches)
