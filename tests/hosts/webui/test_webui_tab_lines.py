"""What the three steps of the training tab say of their fields, with a real UNet in the place of the WebUI's."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from types import SimpleNamespace

import pytest
from test_webui_glue import host  # noqa: F401
from test_webui_work_order import TOO_FEW

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.hosts.webui.training.pace import Setting
from lib_gie.hosts.webui.training.work_order import WorkOrder
from lib_gie.training.prompts import starter_list, starter_list_for

NAMED = [f"a knife on table {number}" for number in range(12)]
OTHERS = [f"a cat on table {number}" for number in range(12)]
PROMPTS = "\n".join([*NAMED, "[unrelated]", *OTHERS])
ORDER = WorkOrder("knife", "", PROMPTS, "self", 100, 2, 5, "Euler", 20, 4.0, 512, 512, 8)
WHAT, HOW, GO = range(3)


@pytest.fixture
def lines(host, monkeypatch):  # noqa: F811
    """What the steps say of the fields with these changes."""
    names = [SimpleNamespace(name="Euler"), SimpleNamespace(name="DPM++ 2M")]
    samplers = host._module("sd_samplers", visible_samplers=lambda: names)
    monkeypatch.setitem(sys.modules, "modules.sd_samplers", samplers)
    monkeypatch.setattr(sys.modules["modules"], "sd_samplers", samplers, raising=False)
    module = importlib.import_module("lib_gie.hosts.webui.training.lines")

    def say(**changes) -> list[str]:
        values = [changes.get(name, value) for name, value in dataclasses.asdict(ORDER).items()]
        return module.step_lines(*values)

    return say


def test_a_good_order_is_told_at_each_step(lines):
    what, how, go = lines()
    counted, said = what.split(". ")
    assert counted == "24 prompts for knife: 12 explicit, 0 implicit, 12 unrelated"
    assert said.startswith("None implies it")
    assert "None implies it" not in lines(prompts=f"[implicit]\na robbery\n[explicit]\n{PROMPTS}")[WHAT]
    assert how.startswith("self: the diffusion model as a zero-shot classifier")
    assert "made with tiny, which is loaded" in how
    assert go.startswith("Time: ")
    assert "gie-error" not in what + how + go


def test_what_was_trained_just_now_is_no_problem(lines, monkeypatch):
    """But where something else is to be trained under its name."""
    module = importlib.import_module("lib_gie.hosts.webui.training.lines")
    trained = module.WorkOrder(**dataclasses.asdict(ORDER))
    monkeypatch.setattr(module, "trainer", SimpleNamespace(trained=trained, paces=NO_PACES))
    assert lines()[GO] == "knife is trained. To train it again, tick Replace or give another name."
    assert lines(seeds=1)[GO].startswith("Time: ")


NO_PACES = SimpleNamespace(of=lambda setting: None)


def test_words_that_the_demo_model_does_not_know_are_told(lines, monkeypatch):
    """On another model nobody knows which words it has seen."""
    assert "does not know" not in lines(concept="lamp")[WHAT]
    module = importlib.import_module("lib_gie.hosts.webui.training.lines")
    monkeypatch.setattr(module, "family_now", lambda: "gie-demo")
    said = lines(concept="lamp")[WHAT]
    assert "The demo model does not know the word lamp of the concept, so nothing of it can be learnt." in said
    assert "of the concept" not in lines()[WHAT]


def test_prompts_with_such_words_are_counted(lines, monkeypatch):
    """Those of the list that other models are trained on; the concept's own words are told of already."""
    assert "have words that" not in lines(prompts=starter_list("object"))[WHAT]
    for part in ("lines", "suitable"):
        module = importlib.import_module(f"lib_gie.hosts.webui.training.{part}")
        monkeypatch.setattr(module, "family_now", lambda: "gie-demo")
    said = lines(prompts=starter_list("object"))[WHAT]
    found = re.search(r"(\d+) prompts have words that the demo model does not know, such as wooden, table", said)
    assert found
    assert 20 < int(found[1]) < 32
    assert "Take the starter list demo-object." in said
    assert "Take the starter list demo-style." in lines(concept="neon sign", prompts=starter_list("object"))[WHAT]
    assert (
        "1 prompt has words"
        in lines(prompts=f"{starter_list('demo-object')}\na wooden <lora:table:1>\na wooden tree")[WHAT]
    )
    for concept in ("wine", "lamp"):
        assert "have words that" not in lines(concept=concept, prompts=starter_list("demo-object"))[WHAT]


@pytest.mark.parametrize(
    ("changes", "step", "says"),
    [
        ({"concept": ""}, WHAT, "Name what is to be erased"),
        ({"concept": "knife, wine"}, WHAT, "names 2 concepts"),
        ({"concept": '"knife'}, WHAT, "gie-error"),
        ({"concept": 5}, WHAT, "must be a text"),
        ({"prompts": "[unrelated]\na cat"}, WHAT, "all unrelated"),
        ({"prompts": "a knife"}, WHAT, "no prompt is unrelated"),
        ({"prompts": TOO_FEW}, WHAT, "too few to keep some for validation"),
        ({"prompts": "[Explcit]\na knife\n[explicit"}, WHAT, "it must be one of [explicit]"),
        ({"judge": "oracle"}, HOW, "judge is &#x27;oracle&#x27;"),
        ({"judge": "detector"}, HOW, "the detector knows the demo model"),
        ({"judge": "vision"}, HOW, "needs an OpenAI-compatible endpoint"),
        ({"seeds": 99}, HOW, "seeds is 99"),
        ({"name": "../x"}, GO, "give a plain one"),
        ({"replace": None}, GO, "must be true or false"),
    ],
)
def test_a_problem_is_said_at_the_step_where_it_arises(lines, changes, step, says):
    said = lines(**changes)
    assert says in said[step]
    others = [text for number, text in enumerate(said) if number != step]
    assert not [text for text in others if "gie-error" in text]
    if step != GO and changes != {"judge": "detector"} and changes != {"judge": "vision"}:
        assert said[GO] == ""


def test_doubts_stop_nobody(lines):
    few = "\n".join([*NAMED[:5], "[unrelated]", *OTHERS])
    what, _, go = lines(prompts=few)
    assert "There are few prompts with &#x27;knife&#x27;: 5." in what
    assert "gie-doubt" in what
    assert go.startswith("Time: ")
    what, _, _ = lines(concept="umbrella")
    assert "No prompt under [explicit] names &#x27;umbrella&#x27;" in what


def test_what_is_said_of_prompts_is_of_those_that_are_trained_on(lines):
    everything = "\n".join([*NAMED, "[implicit]", *(f"robbery {n}" for n in range(3)), "[unrelated]", *OTHERS])
    what, how, go = lines(prompts=everything, count=4, seeds=3)
    assert what.startswith("11 prompts for knife: 4 explicit, 3 implicit, 4 unrelated.")
    assert "The list has 27, but Advanced takes at most 4 per section." in what
    assert "There are few prompts with &#x27;knife&#x27;: 7." in what
    assert "There are few unrelated prompts: 4." in what
    assert how
    assert go
    assert "The list has" not in lines(prompts=everything)[WHAT]
    assert "The list has" not in lines(prompts=everything, count=12)[WHAT]


@pytest.mark.parametrize("count", [4, 12])
def test_few_prompts_of_a_starter_list_are_a_doubt(lines, count):
    what, _, _ = lines(prompts=starter_list(starter_list_for("knife")), count=count)
    assert what.startswith(f"{2 * count} prompts for knife: {count} explicit, 0 implicit, {count} unrelated.")
    assert what.count("There are few ") == (2 if count == 4 else 0)


def test_a_name_that_is_taken_is_said_before_anything_is_made(lines, tmp_path):
    folder = tmp_path / "growth-inhibitors"
    folder.mkdir()
    save_adapter(Adapter(AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))), folder / "knife.safetensors")
    assert "tick &#x27;Replace&#x27;" in lines()[GO]
    assert "knife is replaced" in lines(replace=True)[GO]
    assert lines(name="other")[GO].startswith("Time: ")


def test_a_checkpoint_that_cannot_be_trained_on_is_said(lines, host):  # noqa: F811
    host.shared.sd_model.cond_stage_key = "edit"
    how = lines()[HOW]
    assert "gie-error" in how
    assert "edits a given picture" in how


def test_no_checkpoint_is_loaded_yet(lines, host):  # noqa: F811
    host.modules["modules.sd_models"].model_data.sd_model = None
    _, how, go = lines()
    assert "No checkpoint is loaded yet" in how
    assert go.startswith("Time: ")


def test_an_unusual_size_is_a_doubt(lines):
    assert "usually 512x512, not 64x64" in lines(width=64, height=64)[HOW]
    assert "usually" not in lines()[HOW]


def test_the_estimate_is_of_what_was_measured_with_this_checkpoint_and_size(lines, host):  # noqa: F811
    trainer = importlib.import_module("lib_gie.hosts.webui.training.trainer").trainer
    trainer.paces.note(Setting(host.shared.sd_model.sd_checkpoint_info.name_for_extra, 512, 512), 100, 25.0)
    assert "by 0.25 s for an evaluation of the UNet, as measured here" in lines()[GO]
    assert "is not measured yet" in lines(width=768)[GO]
    assert lines(seeds=4)[GO] != lines()[GO]


def test_nothing_is_asked_of_the_model(lines, host, monkeypatch):  # noqa: F811
    """A field that changes starts no work: the UNet and the queue are left alone."""
    unet = host.shared.sd_model.model.diffusion_model
    monkeypatch.setattr(type(unet), "forward", lambda *args, **kwargs: pytest.fail("the UNet ran"))
    assert lines()[GO].startswith("Time: ")


def test_any_number_of_values(lines):
    module = importlib.import_module("lib_gie.hosts.webui.training.lines")
    assert "values were given" in module.step_lines()[WHAT]
