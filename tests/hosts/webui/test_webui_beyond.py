"""What an admin enforces gets stronger at another size and with more guidance than its scale was found at."""

from __future__ import annotations

import importlib
import math

import pytest
from fake_host import Processing, Sampling
from test_webui_glue import host  # noqa: F401
from test_webui_scales import install, process

from lib_gie.assets import MODELS
from lib_gie.core.scales.adapter import load_adapter
from lib_gie.core.scales.scale_rules import FixedScale, guarded
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.options import DEFAULT_SCALE

DEMO, SIZE, CFG = "gie-demo", (8, 8), 4.0


@pytest.fixture
def beyond(host):  # noqa: F811
    return importlib.import_module("lib_gie.hosts.webui.request.beyond")


@pytest.fixture(params=["adapter", "fixed scale"])
def rule(request):
    if request.param == "adapter":
        return guarded(load_adapter(MODELS / "demo-knife.safetensors"), default_scale(DEMO), plain_only=True)
    return FixedScale(default_scale(DEMO))


@pytest.mark.parametrize(
    ("size", "guidance"), [((8, 12), CFG), ((7, 8), CFG), ((6, 6), 2.0), (SIZE, 8.0), (SIZE, 4.5), (SIZE, math.nan)]
)
def test_beyond_it_is_stronger(beyond, rule, size, guidance):
    assert beyond.factor([rule], DEMO, size, guidance) == beyond.BEYOND > 1


def test_all_of_it_counts(beyond, rule):
    assert beyond.factor([rule], DEMO, (8, 12), 8.0) == beyond.BEYOND**2
    assert beyond.factor([rule], DEMO, SIZE, CFG, with_inversion=True) == beyond.BEYOND
    assert beyond.factor([rule], DEMO, SIZE, CFG, is_plain=False) == beyond.BEYOND
    assert beyond.factor([FixedScale(-2.0), rule], DEMO, (8, 12), 8.0, with_inversion=True) == beyond.BEYOND**3


@pytest.mark.parametrize("guidance", [CFG, 2.0, CFG * (1 + 1e-7)])
def test_else_it_is_as_it_was_found(beyond, rule, guidance):
    assert beyond.factor([rule], DEMO, SIZE, guidance) == 1.0


def test_a_scale_of_which_nobody_knows_counts_everywhere(beyond):
    assert beyond.factor([FixedScale(DEFAULT_SCALE)], "sd1", (64, 96), 30.0) == 1.0
    assert beyond.factor([FixedScale(-2.0)], DEMO, (8, 12), 30.0) == 1.0


# -- in a generation ------------------------------------------------


def made(host, **options) -> dict:  # noqa: F811
    """The infotext of an image where knife is enforced, by an adapter that was made at this size and CFG scale."""
    install(host, answer=-1.0)
    host.shared.cmd_opts.gie_enforce, host.shared.opts.gie_enforced_show_scale = ["knife"], True
    p = Processing(host, [], sampling=Sampling(**options))
    p.all_prompts = ["a cat"] * len(p.all_prompts)
    infotext: dict = host.processing.process_images_inner(p).infotexts[0]
    return infotext


@pytest.mark.parametrize("parts", [(1.0,), (0.5, 0.5), (1.5, -0.5)])
def test_a_usual_request_gets_the_adapters_scale(host, parts):  # noqa: F811
    total = sum(weight for weight in parts if weight > 0)
    assert made(host, parts=(parts,), cond_scale=CFG / total)["GIE enforced scale"] == "-1"


@pytest.mark.parametrize(
    "options",
    [
        {"cond_scale": 8.0},
        {"parts": ((7.5,),)},  # "a knife :7.5" is drawn as at a CFG scale of 30
        {"parts": ((7.5, -6.5),)},
        {"parts": ((1.0, 1.0),)},
        {"parts": ((30.0,),), "cond_scale": 1.0},
        {"parts": ((1.0,), (2.0,))},  # another image of the batch
    ],
    ids=str,
)
def test_more_guidance_than_it_was_found_at(host, options):  # noqa: F811
    assert made(host, **options)["GIE enforced scale"] == "-1.25"


def test_another_size_than_it_was_found_at(host):  # noqa: F811
    install(host, answer=-1.0, size=(4, 8))
    host.shared.cmd_opts.gie_enforce, host.shared.opts.gie_enforced_show_scale = ["knife"], True
    _, done = process(host, [])
    assert done.infotexts[0]["GIE enforced scale"] == "-1.25"


def test_a_users_own_scale_stays(host):  # noqa: F811
    install(host, answer=-1.0)
    p = Processing(host, [True, "knife", "own"], sampling=Sampling(parts=((7.5,),)))
    p.all_prompts = ["a cat"]
    assert host.processing.process_images_inner(p).infotexts[0]["GIE scale"] == "-1"
