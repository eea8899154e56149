"""What griffe, which reads the sources for the API reference, does to each docstring: see ``parameter_lists.py``."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import griffe

# griffe loads this file by its path, so it has no neighbours to import
listed = runpy.run_path(str(Path(__file__).with_name("parameter_lists.py")))["listed"]


class ParameterLists(griffe.Extension):
    """Shows the parameters in docstrings as lists."""

    def on_object(self, *, obj: griffe.Object, **context: Any) -> None:
        """Change an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)
