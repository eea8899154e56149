"""The judge of docs/EXTENDING.md: taken out of the page, offered, and used by the real labelling on the demo model."""

from __future__ import annotations

import ast
import json
import sys

import pytest
from pages import EXTENDING, python_in, section_of

from lib_gie.cli import main
from lib_gie.core.scales.adapter import load_adapter
from lib_gie.hosts.webui.training.work_order import WorkOrder, amount
from lib_gie.training import judges
from lib_gie.training.judges import JUDGES, available_judges, usual_judge


@pytest.fixture
def added(tmp_path, monkeypatch) -> str:
    """The page's file beside the judges, and its line in their table; the judge's name."""
    section = section_of(EXTENDING, "A judge")
    file, line = python_in(section)
    ((name, place),) = ast.literal_eval(f"{{{line}}}").items()
    module = place.rpartition(".")[0]
    assert f"lib_gie/training/judges/{module}.py" in section
    (tmp_path / f"{module}.py").write_text(file)
    monkeypatch.setattr(judges, "__path__", [*judges.__path__, str(tmp_path)])
    monkeypatch.setitem(JUDGES, name, place)
    yield name
    sys.modules.pop(f"{judges.__name__}.{module}", None)


def test_it_is_offered(added):
    assert added in available_judges()
    assert usual_judge("blood") == added
    order = WorkOrder("blood", "", "blood\n[unrelated]\na cat", added, 4, 1, 3, "Euler", 4, 4.0, 64, 64, 4)
    assert amount(order).most.evaluations > 0


def test_it_labels_images(added, tmp_path, capsys):
    """Roses are red in the demo world, and most other things are not."""
    prompts = [f"a rose on a {colour} background" for colour in ("white", "blue", "green", "teal", "gray", "brown")]
    others = [f"a {name}" for name in ("cat", "dog", "fish", "house", "tree", "star")]
    (tmp_path / "prompts.txt").write_text("\n".join([*prompts, "[unrelated]", *others]))
    command = [
        "train", "--concept", "rose", "--judge", added, "--prompts", str(tmp_path / "prompts.txt"), "--seeds", "1",
        "--steps", "6", "--epochs", "5", "--out", str(tmp_path / "rose.safetensors"), "--labels", str(tmp_path),
        "--json",
    ]  # fmt: skip
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["shown_without_erasure"] >= 4
    assert report["never_erased"] < report["shown_without_erasure"]
    assert report["mean_label_where_shown"] < 0
    assert load_adapter(tmp_path / "rose.safetensors").info.training["judge"] == ["red (from 0.02 of the pixels)"]
    (kept,) = tmp_path.glob("labels-*.jsonl")
    identity, *entries = [json.loads(line) for line in kept.read_text().splitlines() if line]
    assert identity[-1] == "red (from 0.02 of the pixels)"
    assert {entry["scale"] for entry in entries} > {0.0}
    assert {entry["score"] >= 0.02 for entry in entries} == {True, False}
