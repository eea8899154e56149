"""How the WebUI's requests find their scales: prompts that name a concept, floors, what changes while one runs."""

from __future__ import annotations

import importlib
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from fake_host import Processing, Sampling
from test_scales import fit_range
from test_webui_glue import host  # noqa: F401
from test_webui_inversions import Database

from lib_gie.core.concepts import Concept
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import AdapterError, ErasureError, OptionError

ON = [True, "knife", "own"]
PASSES = {"steps": 2, "parts": ((1.0,),)}


def install(host, answer: float = 0.0, concept: str = "knife", known: bool = True, size=(8, 8)) -> None:  # noqa: F811
    """An adapter by the name "own" whose answer is always the same; ``known``: everything is like its training."""
    inputs = sum(layer.heads for layer in find_cross_attention(host.shared.sd_model.model.diffusion_model))
    info = AdapterInfo(
        "width-24", inputs, (concept,), (-9.0, 0.0), Reading(True, 3, size), conditions={"clip_skip": 1, "cfg": 4.0}
    )
    adapter = Adapter(info)
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
        adapter.out.bias.fill_(answer)
    if known:
        wide = torch.rand(60, inputs, generator=torch.Generator().manual_seed(0)) * 20 - 10
        adapter.range = fit_range(wide[:40], wide[40:])
    folder = host.modules["modules.paths_internal"].models_path
    path = importlib.import_module("pathlib").Path(folder) / "growth-inhibitors" / "own.safetensors"
    save_adapter(adapter, path)


def process(host, args=ON, prompt="a cat", **options):  # noqa: F811
    p = Processing(host, list(args), sampling=Sampling(**PASSES), **options)
    p.all_prompts = [prompt] * len(p.all_prompts)
    host.outputs.clear()
    return p, host.processing.process_images_inner(p)


def scale_of(done) -> float:
    return float(done.infotexts[0]["GIE scale"])


# -- prompts ------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "named", "emphasis"),
    [
        ("a cat", False, 1.0),
        ("a Knife, on blue", True, 1.0),
        ("a (knife:1.6)", True, 1.6),
        ("a (knife:0.5) and (a cat:0.7)", True, 1.0),
        ("kn(ife:1.2)", True, 1.2),
        ("a cat :0.5 AND a knife :-1.5", True, 1.0),
        ("(a cat:1.3) AND (a dog:1.5) :2", False, 1.5),
        ("a cat <lora:knife:1>", True, 1.0),  # too strong rather than too weak
        ("a <a:(knife:3)>", True, 3.0),  # what a tag within a tag leaves is encoded
        (" ".join(["knife", *["fenik"] * 255]), True, 2.0),  # the tokenizer takes both for the same
        ("", False, 1.0),
        (" ".join(["knife"] * 256), True, 2.0),
        (" ".join(["cat"] * 256), False, 1.0),
    ],
)
def test_what_a_prompt_says(host, prompt, named, emphasis):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    facts = prompts.facts_of(prompt, [Concept("knife"), Concept("wine")], host.shared.sd_model, 20, 20)
    assert facts.named == (frozenset({"knife"}) if named else frozenset())
    assert facts.emphasis == emphasis


def test_all_stages_of_an_edited_prompt_count(host):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    asked = []

    def schedules(texts, steps, hires_steps, old):
        asked.append((steps, hires_steps))
        return [[[10, "a cat"], [20, "a k(nif:1.4)e"]]]

    host.modules["modules.prompt_parser"].get_learned_conditioning_prompt_schedules = schedules
    facts = prompts.facts_of("[a cat:a k(nif:1.4)e:.5]", [Concept("knife")], host.shared.sd_model, 20, 7)
    assert facts.named == {"knife"}
    assert facts.emphasis == 1.4
    assert set(asked) == {(20, None), (20, 7)}  # of the first pass, and of Hires. fix


@pytest.mark.parametrize(("mode", "emphasis"), [("Original", 1.6), ("No norm", 1.6), ("Ignore", 1.0), ("None", 1.0)])
def test_emphasis_modes(host, mode, emphasis):  # noqa: F811
    host.shared.opts.emphasis = mode
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    facts = prompts.facts_of("a (knife:1.6)", [Concept("knife")], host.shared.sd_model, 20, 20)
    assert (facts.named, facts.emphasis) == ({"knife"}, emphasis)


@pytest.mark.parametrize(
    ("old", "mode", "emphasis"),
    [(True, "Original", 1.1**14), (True, "No norm", 1.1**14), (True, "Ignore", 1.0), (False, "Original", 1.0)],
)
def test_the_old_implementation_of_emphasis(host, old, mode, emphasis):  # noqa: F811
    """Every token with a bracket in it multiplies what follows, also where there is no other bracket to it."""
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    host.shared.sd_model.cond_stage_model.token_mults = {2 + ord("]"): 1.1}
    host.shared.opts.use_old_emphasis_implementation, host.shared.opts.emphasis = old, mode
    facts = prompts.facts_of("] " * 14 + "knife", [Concept("knife")], host.shared.sd_model, 20, 20)
    assert facts.emphasis == pytest.approx(emphasis)


def encoded(host, prompt):  # noqa: F811
    """What the WebUI makes of a prompt, and may keep for later requests."""
    parser = host.modules["modules.prompt_parser"]
    return parser.get_multicond_learned_conditioning(host.shared.sd_model, [prompt], 20, None, False)


def test_emphasis_counts_as_it_was_when_the_prompt_was_encoded(host):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    prompt = "a (knife:1.6)"
    reading = encoded(host, prompt).gie_reading
    host.shared.opts.emphasis = "Ignore"
    assert prompts.facts_of(prompt, [Concept("knife")], host.shared.sd_model, 20, 20, reading).emphasis == 1.6
    assert prompts.facts_of(prompt, [Concept("knife")], host.shared.sd_model, 20, 20).emphasis == 1.0


def test_inversions_count_as_they_were_when_the_prompt_was_encoded(host):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    encoder = host.shared.sd_model.cond_stage_model
    encoder.hijack.embedding_db = Database()
    encoder.encode_embedding_init_text = lambda text, count: torch.ones(1, 24)
    reading = encoded(host, "in style").gie_reading
    encoder.hijack.embedding_db.ids_lookup.clear()  # its file is gone
    facts = prompts.facts_of("in style", [Concept("knife")], host.shared.sd_model, 20, 20, reading)
    assert facts.names("knife")
    assert facts.emphasis == 3**0.125
    assert not prompts.facts_of("in style", [Concept("knife")], host.shared.sd_model, 20, 20).names("knife")


@pytest.mark.parametrize(("mode", "factor"), [("Original", 4.0), ("Ignore", 1.0)])
def test_a_generation_asks_how_its_prompt_was_read(host, mode, factor):  # noqa: F811
    """The setting is changed after the prompt was encoded."""
    host.shared.opts.emphasis = mode
    made = encoded(host, "a (knife:2)")
    host.shared.opts.emphasis = "Original" if mode == "Ignore" else "Ignore"
    host.callbacks.insert(0, lambda params: use(params, made))
    done = process(host, [True, "knife", "Fixed scale", 1, -1], "a (knife:2)")[1]
    assert scale_of(done) == -factor


def test_clip_skip_changed_between_the_prompt_and_the_concepts_is_refused(host):  # noqa: F811
    host.shared.opts.CLIP_stop_at_last_layers = 2
    made = encoded(host, "a cat")
    host.shared.opts.CLIP_stop_at_last_layers = 1
    host.callbacks.insert(0, lambda params: use(params, made))
    with pytest.raises(ErasureError, match="read at clip skip 2 and the concepts at 1"):
        process(host, [True, "knife", "Fixed scale", 1, -1])


def use(params, made) -> None:
    """Have a step draw a prompt that was encoded so."""
    made.batch = params.denoiser.sampler.sampler_extra_args["cond"].batch
    params.denoiser.sampler.sampler_extra_args["cond"] = made


def test_a_prompt_that_is_not_known_may_name_everything(host):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    assert prompts.facts_of(None, [Concept("knife")], host.shared.sd_model, 20, 20).names("knife")


# -- adapters ------------------------------------------------


def test_a_named_concept_gets_at_least_the_fixed_scale_and_it_is_said(host):  # noqa: F811
    install(host)
    p, done = process(host)
    assert scale_of(done) == 0
    assert not p.comments
    p, done = process(host, prompt="a knife")
    assert scale_of(done) == -3
    (note,) = p.comments
    assert (
        "for 'knife' the fixed scale -3 took the place of the adapter's weaker answer: the prompt names the concept"
        in note
    )


def test_a_clip_skip_that_changes_while_the_job_runs_counts(host):  # noqa: F811
    install(host)

    def change(p):
        host.shared.opts.CLIP_stop_at_last_layers = 3

    _, done = process(host, prompt="a knife", n_iter=2, after_image=change)
    assert [float(text["GIE scale"]) for text in done.infotexts] == [-3, -12]


def test_emphasis_counts(host):  # noqa: F811
    _, done = process(host, [True, "knife", "Fixed scale", 1.0, -2.0], prompt="a (knife:1.5) and a cat")
    assert scale_of(done) == -4.5
    with pytest.raises(OptionError, match="emphasis"):
        process(host, [True, "knife", "Fixed scale", 1.0, -2.0], prompt="a (knife:6)")


def test_an_old_adapter_is_named(host):  # noqa: F811
    install(host, known=False)
    p, _ = process(host)
    (note,) = p.comments
    assert "own does not say what it was fitted on" in note


def test_an_adapter_for_another_concept(host):  # noqa: F811
    install(host, concept="wine")
    p, _ = process(host)
    (note,) = p.comments
    assert "own was fitted for wine, not for 'knife'" in note
    host.shared.cmd_opts.gie_enforce = "knife"
    host.shared.cmd_opts.gie_enforce_adapter = ["own"]
    with pytest.raises(AdapterError, match="fitted for wine"):
        process(host, [])


def test_what_differs_from_the_training_is_said(host):  # noqa: F811
    install(host, size=(8, 4))
    host.shared.opts.CLIP_stop_at_last_layers = 2
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    options = importlib.import_module("lib_gie.hosts.webui.request.parsing")
    plan = plans.make_plan(options.read_request(ON), host.shared.sd_model)
    p = SimpleNamespace(cfg_scale=7.0, width=64, height=64)
    (note,) = plans.differences(plan, p)
    assert note == "the adapter own was fitted at clip skip 1, not 2; CFG scale 4, not 7; 32x64 pixels, not 64x64"
    host.shared.opts.CLIP_stop_at_last_layers = 1
    assert plans.differences(plan, SimpleNamespace(cfg_scale=4.0, width=32, height=64)) == []


# -- what is enforced ------------------------------------------------


@pytest.mark.parametrize("place", ["cmd_opts", "opts"])
def test_an_enforced_concept_has_a_floor(host, place):  # noqa: F811
    install(host)
    if place == "cmd_opts":
        host.shared.cmd_opts.gie_enforce, host.shared.cmd_opts.gie_enforce_floor = ["knife"], -0.75
    else:
        host.shared.opts.gie_enforced_concepts, host.shared.opts.gie_enforced_floor = "knife", -0.75
    host.shared.opts.gie_enforced_show_scale = True
    p, done = process(host, [])
    assert done.infotexts[0]["GIE enforced scale"] == "-0.75"
    assert not p.comments
    p, done = process(host, [], prompt="a knife")
    assert done.infotexts[0]["GIE enforced scale"] == "-3"
    assert not p.comments  # nothing under the image tells what the adapter said
    host.shared.opts.gie_enforced_concepts, host.shared.opts.gie_enforced_floor = "knife", 2
    with pytest.raises(ErasureError, match="gie_enforced_floor"):
        process(host, [])


def test_a_users_own_concepts_have_none(host):  # noqa: F811
    install(host)
    host.shared.opts.gie_enforced_floor = -0.75
    assert scale_of(process(host)[1]) == 0


# -- what changes while a request runs ------------------------------------------------


def reads(host, monkeypatch) -> list:  # noqa: F811
    """What every adapter is asked is noted."""
    found = []
    asked = Adapter.scales
    monkeypatch.setattr(Adapter, "scales", lambda *args: found.append(args[1]) or asked(*args))
    return found


def test_networks_that_come_and_go_are_noticed(host, monkeypatch):  # noqa: F811
    install(host)
    found = reads(host, monkeypatch)
    networks = SimpleNamespace(loaded_networks=[])
    monkeypatch.setitem(sys.modules, "networks", networks)
    one = SimpleNamespace(name="one", te_multiplier=1.0, unet_multiplier=1.0, dyn_dim=None)
    changes = {2: lambda: networks.loaded_networks.append(one), 4: lambda: setattr(one, "unet_multiplier", 0.5)}
    steps = []

    def change(params):
        steps.append(1)
        changes.get(len(steps), lambda: None)()

    host.callbacks.insert(0, change)
    p = Processing(host, list(ON), sampling=Sampling(steps=6, parts=((1.0,),)))
    p.all_prompts = ["a cat"]
    host.processing.process_images_inner(p)
    assert len(steps) == 6
    assert len(found) == 3


def test_a_hypernetwork_that_is_taken_away_is_noticed(host, monkeypatch):  # noqa: F811
    sampling = importlib.import_module("lib_gie.hosts.webui.sampling.loaded_model")
    layer = SimpleNamespace(multiplier=500.0)
    one = SimpleNamespace(name="one", layers={24: (layer, layer)})
    host.shared.loaded_hypernetworks = [one]
    with_it = sampling.active_hypernetworks()
    assert with_it == sampling.active_hypernetworks()
    layer.multiplier = 1.0
    weaker = sampling.active_hypernetworks()
    host.shared.loaded_hypernetworks = []
    assert len({with_it, weaker, sampling.active_hypernetworks()}) == 3


def test_the_second_pass_is_read_again(host, monkeypatch):  # noqa: F811
    install(host)
    found = reads(host, monkeypatch)
    process(host, enable_hr=True)
    assert len(found) == 2


def test_hooks_that_are_put_on_again_read_nothing_again(host, monkeypatch):  # noqa: F811
    install(host)
    found = reads(host, monkeypatch)

    def detach(params):
        if host.stack():
            host.stack()[-1].detach()

    host.callbacks.insert(0, detach)
    process(host)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a knife :0.5 AND a cat : -1", ["a knife", "a cat"]),
        ("a knife:1.", ["a knife"]),
        ("a knife : .5", ["a knife"]),
        ("a: knife", ["a: knife"]),
        ("<lora:x:1> a knife <b", ["<lora:x:1> a knife <b"]),  # the WebUI has taken all tags out
        ("1:2:3", ["1:2"]),
    ],
)
def test_parts_of_a_prompt(host, prompt, parts):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    assert [part.strip() for part in prompts._parts(prompt)] == parts


@pytest.mark.parametrize(
    "prompt", [":" + "1" * 40000 + "x", "a" + " " * 40000 + ":", "<a:" * 20000, ":1" * 20000 + "x"]
)
def test_long_prompts_are_taken_apart_in_linear_time(host, prompt):  # noqa: F811
    prompts = importlib.import_module("lib_gie.hosts.webui.request.prompts")
    start = time.perf_counter()
    prompts._parts(prompt)
    assert time.perf_counter() - start < 0.5


def test_what_is_enforced_are_words(host):  # noqa: F811
    """A textual inversion of their name comes on top: it must not take their place."""
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    model, knife = host.shared.sd_model, Concept("knife")
    assert plans._as_words((knife,), model) == (Concept("knife", literal=True),)
    vectors = torch.ones(2, model.cond_stage_model.width)
    made = SimpleNamespace(name="knife", vectors=2, vec=vectors)
    (first,) = model.cond_stage_model.tokenize(["knife"])[0]
    model.cond_stage_model.hijack.embedding_db = SimpleNamespace(
        ids_lookup={first: made},
        find_embedding_at_position=lambda ids, k: (made, 1) if ids[k] == first else (None, None),
    )
    assert plans._as_words((knife,), model) == (Concept("knife", literal=True), knife)
    made.vectors = 76
    assert plans._as_words((knife,), model) == (Concept("knife", literal=True),)


def test_where_no_call_is_for_the_text_alone_the_narrow_adapter_answers(host):  # noqa: F811
    """What is predicted beside a picture was not fitted. For what is enforced the fixed scale takes its place."""
    from lib_gie.core.scales.scale_rules import FixedScale, guarded
    from lib_gie.hosts.webui.request.plan import _rule_now

    predicted = (Reading(noise=0, size=(8, 8), predicted=True),)
    info = AdapterInfo("width-24", 6 + 256, ("knife",), (-9.0, 0.0), Reading(True, 0, (8, 8)), predicted=predicted)
    wide, narrow = Adapter(info), Adapter(AdapterInfo("width-24", 6, ("knife",), (-9.0, 0.0), Reading(True, 0, (8, 8))))
    wide.narrow = narrow
    assert _rule_now(guarded(wide, -3.0), reads_text=True).adapter is wide
    assert _rule_now(guarded(wide, -3.0), reads_text=False).adapter is narrow
    enforced = guarded(wide, -3.0, plain_only=True)
    assert _rule_now(enforced, reads_text=True).adapter.cautious
    now = _rule_now(enforced, reads_text=False)
    assert isinstance(now, FixedScale)
    assert now.value == -3.0
    assert _rule_now(guarded(narrow, -3.0), reads_text=False).adapter is narrow
