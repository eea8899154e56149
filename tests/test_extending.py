"""The examples of docs/EXTENDING.md, run as they stand there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pages import EXTENDING, python_in, section_of

ROOT = Path(__file__).resolve().parents[1]


def run(code: str) -> str:
    """Run code in a process of its own, with the tests' helpers, and return what it prints."""
    path = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "core")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


TRY_RULE = """
import torch
from test_algorithm import erase, stock
from tiny import build_ldm, make_batch, make_concept
from lib_gie.core.erasure import Target
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.options import BY_NAME

print(BY_NAME["rule"].choices)
unet, batch, knife = build_ldm(), make_batch(), make_concept("knife")
before = stock(unet, batch)
for scale in (0.0, -0.5, -2.0):
    after = erase(unet, batch, [Target(knife, FixedScale(scale))], rule="value bias")
    unconditional = [index for index, row in enumerate(batch.rows) if row is None]
    assert torch.equal(after[unconditional], before[unconditional])
    print(float((after - before).abs().mean()))
"""


def test_an_erasing_rule(tmp_path):
    rule, line = python_in(section_of(EXTENDING, "An erasing rule"))
    (tmp_path / "value_bias.py").write_text(rule, encoding="utf-8")
    added = "from lib_gie.core.rules import RULES, RuleEntry, __path__\n" + f"__path__.append({str(tmp_path)!r})\n"
    choices, *changes = run(added + line + TRY_RULE).splitlines()
    assert "'value bias'" in choices
    none, some, more = map(float, changes)
    assert none == 0 < some < more
