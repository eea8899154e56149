"""What the pages of docs/ show, as tests take it from them."""

from __future__ import annotations

import re
from pathlib import Path

EXTENDING = Path(__file__).resolve().parents[1] / "docs" / "EXTENDING.md"


def section_of(page: Path, heading: str) -> str:
    """The text under a heading of the second level."""
    return page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def python_in(section: str) -> list[str]:
    """The Python code of a section, block by block."""
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)
