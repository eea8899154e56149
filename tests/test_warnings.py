"""Warnings of our lines are errors in the tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HELPERS = [path.stem for path in TESTS.glob("*.py")]


@pytest.mark.parametrize("module", ["lib_gie", "lib_gie.core.rows", *HELPERS])
@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, UserWarning])
def test_a_warning_of_ours_is_an_error(module, category):
    with pytest.raises(category, match="old"):
        warnings.warn_explicit("old", category, f"{module}.py", 1, module=module, registry={})


def test_a_line_is_known_by_its_module():
    with pytest.raises(DeprecationWarning, match="old"):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
