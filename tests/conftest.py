"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from contextlib import nullcontext

import not_run
import pytest
from hypothesis import settings
from not_run import pytest_terminal_summary  # noqa: F401 (pytest finds it here)
from tiny import BUILDERS, Batch, TinyUNet, make_batch

from lib_gie.core.arithmetic import few_kernels

settings.register_profile("busy machines", deadline=None)
settings.load_profile("busy machines")


@pytest.fixture(params=sorted(BUILDERS))
def unet(request) -> TinyUNet:
    """A tiny random UNet of each library."""
    return BUILDERS[request.param]()


@pytest.fixture
def batch() -> Batch:
    """Two conditional and two unconditional rows."""
    return make_batch()


@pytest.fixture(params=["least work", "few kernels"])
def either_arithmetic(request):
    """Both ways to compute a layer's term: the processor's, and that of a GPU."""
    with few_kernels() if request.param == "few kernels" else nullcontext():
        yield request.param


@pytest.fixture
def ordinary_user():
    """Where tests are run by the administrator, who may read and write everywhere: act for somebody else."""
    if not hasattr(os, "geteuid"):
        pytest.skip(not_run.USERS)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)
