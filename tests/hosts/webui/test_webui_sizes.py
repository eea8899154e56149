"""What an admin enforces gets stronger in images of another size than its scale was found at."""

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

DEMO = "gie-demo"


@pytest.fixture
def sizes(host):  # noqa: F811
    return importlib.import_module("lib_gie.hosts.webui.request.sizes")


def strength(sizes, rule, base: str = DEMO, own: float = 1.0, **asked) -> float:
    """The strength of the enforced request for a job that is asked for so."""
    request = importlib.import_module("lib_gie.hosts.webui.request.parsing").Request((), strength=own)
    job = SimpleNamespace(**{"width": 64, "height": 64, **asked})
    return sizes.for_sizes(request, [rule], sizes.sizes_of(job), base).strength


@pytest.fixture(params=["adapter", "fixed scale"])
def rule(request):
    if request.param == "adapter":
        return guarded(load_adapter(MODELS / "demo-knife.safetensors"), default_scale(DEMO), plain_only=True)
    return FixedScale(default_scale(DEMO))


@pytest.mark.parametrize(
    "asked", [{"width": 96}, {"height": 56}, {"width": 48, "height": 48}, {"enable_hr": True}, {"width": None}], ids=str
)
def test_at_another_size_it_is_stronger(sizes, rule, asked):
    assert strength(sizes, rule, **asked) == sizes.OTHER_SIZE > 1
    assert strength(sizes, rule, own=2.0, **asked) == 2 * sizes.OTHER_SIZE
    assert strength(sizes, rule, own=BY_NAME["strength"].high, **asked) == BY_NAME["strength"].high


def test_at_its_size_it_is_as_the_admin_says(sizes, rule):
    assert strength(sizes, rule) == 1.0
    assert strength(sizes, rule, own=0.5, enable_hr=False) == 0.5


def test_a_scale_that_was_found_at_no_size_is_for_all(sizes):
    assert strength(sizes, FixedScale(DEFAULT_SCALE), base="sd1", width=512, height=768) == 1.0
    assert strength(sizes, FixedScale(-2.0), width=96) == 1.0
