"""What an admin enforces gets stronger at another size and at a greater CFG scale than its scale was found at."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
from test_webui_glue import host  # noqa: F401

from lib_gie.assets import MODELS
from lib_gie.core.scales.adapter import load_adapter
from lib_gie.core.scales.scale_rules import FixedScale, guarded
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.options import BY_NAME, DEFAULT_SCALE

DEMO, MOST = "gie-demo", BY_NAME["strength"].high


@pytest.fixture
def beyond(host):  # noqa: F811
    return importlib.import_module("lib_gie.hosts.webui.request.beyond")


def strength(beyond, rule, base: str = DEMO, own: float = 1.0, **asked) -> float:
    """The strength of the enforced request for a job that asks for this."""
    request = importlib.import_module("lib_gie.hosts.webui.request.parsing").Request((), strength=own)
    job = SimpleNamespace(**{"width": 64, "height": 64, "cfg_scale": 4, **asked})
    return beyond.strengthened(request, [rule], beyond.Asked.of(job), base).strength


@pytest.fixture(params=["adapter", "fixed scale"])
def rule(request):
    if request.param == "adapter":
        return guarded(load_adapter(MODELS / "demo-knife.safetensors"), default_scale(DEMO), plain_only=True)
    return FixedScale(default_scale(DEMO))


OTHERS = [{"width": 96}, {"height": 56}, {"width": 48, "height": 48}, {"enable_hr": True}, {"width": None}]
GREATER = [{"cfg_scale": 8}, {"cfg_scale": 30}, {"cfg_scale": 4.5}]


@pytest.mark.parametrize("asked", [*OTHERS, *GREATER], ids=str)
def test_beyond_it_is_stronger(beyond, rule, asked):
    assert strength(beyond, rule, **asked) == beyond.BEYOND > 1
    assert strength(beyond, rule, own=2.0, **asked) == 2 * beyond.BEYOND
    assert strength(beyond, rule, own=MOST, **asked) == MOST


def test_both_count(beyond, rule):
    assert strength(beyond, rule, width=96, cfg_scale=8) == beyond.BEYOND**2
    assert strength(beyond, rule, enable_hr=True, hr_cfg=8) == beyond.BEYOND**2


@pytest.mark.parametrize("asked", [{}, {"enable_hr": False, "hr_cfg": 8}, {"cfg_scale": 2}], ids=str)
def test_else_it_is_as_the_admin_says(beyond, rule, asked):
    assert strength(beyond, rule, **asked) == 1.0
    assert strength(beyond, rule, own=0.5, **asked) == 0.5


def test_an_inversion_of_the_concepts_name_counts_too(beyond, rule):
    request = importlib.import_module("lib_gie.hosts.webui.request.parsing").Request(())
    usual = beyond.Asked(frozenset({(8, 8)}), 4.0)
    assert beyond.strengthened(request, [rule], usual, DEMO, with_inversion=True).strength == beyond.BEYOND


def test_a_scale_of_which_nobody_knows_counts_everywhere(beyond):
    assert strength(beyond, FixedScale(DEFAULT_SCALE), base="sd1", width=512, height=768, cfg_scale=30) == 1.0
    assert strength(beyond, FixedScale(-2.0), width=96, cfg_scale=30) == 1.0
