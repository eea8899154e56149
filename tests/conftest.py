"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings
from tiny import BUILDERS, Batch, TinyUNet, make_batch

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
