"""Which scale the commands take for each concept on the shipped demo model, and what they say of it."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from test_cli import fails
from test_webui_infotext import parsed

from lib_gie import assets
from lib_gie.assets import DEMO_CHECKPOINT, MODELS
from lib_gie.cli import demo, main
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.calibrated import load_calibration
from lib_gie.demo.fixed_scale import load_fixed_scale
from lib_gie.demo.world.captions import unknown_words
from lib_gie.demo.world.concepts import STYLE_OF
from lib_gie.demo.world.scenes import IMPLICIT
from lib_gie.demo.world.things import UNWANTED
from lib_gie.hosts.diffusers import calibrating
from lib_gie.hosts.diffusers.files import checkpoint_digest
from lib_gie.hosts.library import calibration_for, find_recorded, list_adapters
from lib_gie.hosts.webui.request.parsing import Request, read_request
from lib_gie.hosts.webui.request.pasting import Here, read_params

BANANA = "banana-calibrated-" + checkpoint_digest(DEMO_CHECKPOINT)[:8]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache in which the concept banana is calibrated, and what the command said of it."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        out = tmp_path_factory.mktemp("out") / "said.json"
        with out.open("w") as file:
            patch.setattr("sys.stdout", file)
            assert main(["calibrate", "--concept", "banana", "--json"]) == 0
    return cache, json.loads(out.read_text())


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty folder for calibrations."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return assets.calibrations_folder()


@pytest.fixture
def kept(shared, monkeypatch):
    """The folder with the calibration of banana."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared[0]))
    return assets.calibrations_folder()


def test_what_calibrating_says_and_keeps(shared, kept):
    said = shared[1]
    assert said["concept"] == "banana"
    assert -4 < said["strength"] < -0.5
    assert said["ramp"][0] < said["ramp"][1]
    assert 0 < said["evaluations"] <= 1000
    assert said["evaluations_kept"] == 0
    assert said["seen_gone"] is True
    assert said["seconds"] > 0
    assert said["weights"] == checkpoint_digest(DEMO_CHECKPOINT)  # that of the file, as the WebUI has it
    assert said["file"] == str(kept / f"{BANANA}.safetensors")
    info = load_calibration(said["file"]).info
    assert (info.concepts, info.base, info.strength) == (("banana",), "gie-demo", said["strength"])
    assert calibration_for("banana", info.weights, 1, [kept]).name == BANANA


def test_calibrating_with_implied_prompts_into_a_file(kept, tmp_path, capsys):
    """What was read of neutral prompts for banana serves this concept, too."""
    prompts, out = tmp_path / "list.txt", tmp_path / "mine.safetensors"
    prompts.write_text("a knife\n[implicit]\na robbery\na kitchen\n[unrelated]\na dog\n", encoding="utf-8")
    assert main(["calibrate", "--concept", "knife", "--prompts", str(prompts), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    found = load_calibration(out).info
    assert found.training["implied_prompts"] == 2
    assert (
        "/590 " in captured.err
    )  # 864 evaluations without 398 of neutral prompts, whose first is read again, and 4 more
    assert captured.out.splitlines()[:2] == ["concept: knife", f"strength: {found.strength:g}"]
    assert f"evaluations: {found.training['evaluations']} of the UNet, at most 1,000" in captured.out
    assert "(one is one run for one text), of which 398 were kept from an earlier calibration\n" in captured.out
    assert captured.out.endswith(f"{out}\n")
    assert not list(kept.glob("knife*"))
    erase = ["erase", "a knife", "--erase", "knife", "--steps", "2", "--out", str(tmp_path), "--adapter", str(out)]
    assert main([*erase, "--json"]) == 0
    (concept,) = json.loads(capsys.readouterr().out)["concepts"]
    assert concept["scales"] == [[found.strength]]  # the prompt names it
    assert (concept["by"], concept["why"]) == ("calibration mine", "--adapter names it")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--concept", "knife, wine"], "names 2 concepts"),
        (["--concept", ""], "empty"),
        (["--concept", "gun"], "does not know"),
        (["--concept", "knife", "--prompts", "object"], "no prompts under [implicit]"),
        (["--concept", "knife", "--prompts", "nowhere"], "cannot be read"),
        (["--concept", "knife", "--out", "knife.txt"], ".safetensors"),
        (["--concept", "knife", "--model", "missing"], "no model"),
        (["--concept", "knife:0.5"], "gives 'knife' the weight 0.5, which counts only where a concept is erased"),
    ],
)
def test_calibrate_refuses(capsys, cache, arguments, says):
    assert says in fails(capsys, "calibrate", *arguments)
    assert not cache.exists()


@pytest.mark.parametrize("command", [["calibrate", "--concept", "knife"], ["erase", "a dog", "--erase", "banana"]])
def test_an_interruption_says_that_the_next_try_goes_on(command, capsys, cache, tmp_path, monkeypatch):
    inner, calls = calibrating.PipelinePredictor.predict, []

    def predict(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(self, *args)

    monkeypatch.setattr(calibrating.PipelinePredictor, "predict", predict)
    out = ["--out", str(tmp_path / "out")] if command[0] == "erase" else []
    assert main([*command, *out]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("the next try goes on from there\n")
    assert [path.name[:8] for path in cache.iterdir()] == ["neutral-"]


def test_a_weight_of_1_says_nothing(kept, capsys):
    assert "--concept has" not in fails(capsys, "calibrate", "--concept", "banana:1.0", "--out", str(kept))


@pytest.mark.parametrize(
    "concept",
    ["<lora:style:0.8>", "banana <hypernet:x>", "(banana:1.3)", "((banana))", "[banana]", "[banana:cat:0.5]",
     "banana AND cat", "banana, (cat)"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["calibrate", "erase", "demo", "train"])
def test_the_webuis_syntax_is_no_concept(capsys, cache, tmp_path, command, concept):
    more = {"erase": ["a dog", "--out"], "demo": ["--prompt", "a dog", "--out"], "calibrate": ["--out"],
            "train": ["--out"]}[command]  # fmt: skip
    option = "--erase" if command in ("erase", "demo") else "--concept"
    said = fails(capsys, command, *more, str(tmp_path / "x.safetensors"), option, concept)
    assert f"{option} has " in said
    assert "syntax of the WebUI's prompts; name a concept by its words alone" in said
    assert not list(tmp_path.iterdir())
    assert not cache.exists()


def test_no_weight_where_it_would_not_count(capsys, tmp_path):
    own = ["demo", "--prompt", "a dog", "--out", str(tmp_path), "--erase"]
    assert "gives 'dog' the weight 0.5" in fails(capsys, *own, "dog:0.5")
    assert "names 2 concepts" in fails(capsys, *own, "dog, cat")
    assert "gives 'dog' the weight 2" in fails(capsys, "train", "--concept", "cat, dog:2", "--out", str(tmp_path / "x"))


# -- erase ------------------------------------------------


def erase(capsys, out, concepts: str, *more: str) -> tuple[list[dict], str]:
    """What is said of each concept, and the parameters of the erased image."""
    arguments = ["erase", "a picnic", "--erase", concepts, "--seed", "3", "--out", str(out), "--json", *more]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    return report["concepts"], Image.open(out / "after.png").text["parameters"]


def here(*folders) -> Here:
    """A WebUI with the shipped adapters, and what is in these folders."""
    return Here(lambda name, digest: find_recorded(name, digest, [MODELS, *folders]).name)


def test_where_nothing_was_found_it_is_said(kept, tmp_path, capsys):
    """A scale of 0.00 alone says nothing to a newcomer."""
    said = "so nothing was erased: no image's prompt was found to name or imply it"
    main(["erase", "a cat", "--erase", "banana", "--seed", "3", "--out", str(tmp_path)])
    assert said in capsys.readouterr().out
    for more in (["--scale", "0"], ["--strength", "0"], ["--scale", "-1"]):
        main(["erase", "a cat", "--erase", "banana", "--seed", "3", "--out", str(tmp_path), *more])
        assert said not in capsys.readouterr().out


def test_a_kept_calibration_is_taken_and_erases(kept, tmp_path, capsys):
    main(["erase", "a picnic", "--erase", "banana", "--seed", "3", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"by calibration {BANANA}: no adapter is for it; it was calibrated before" in said
    assert "shown without: apple, banana\n" in said
    assert "banana" not in said.split("shown with: ")[1].split("\n")[0]


def test_the_webui_restores_a_calibrated_image(kept, tmp_path, capsys):
    """Where it has the file, that; where it has not, the scale that it gave."""
    ((concept,), text) = erase(capsys, tmp_path, "banana", "--steps", "2")
    ((scale,),) = concept["scales"]
    assert f"GIE adapter: {BANANA} [" in text
    assert read_request([read_params(parsed(text), here(kept))[0]]) == Request((Concept("banana"),), BANANA)
    values, notice = read_params(parsed(text), here())
    assert "the scales that it gave this image are filled in" in notice
    written = -float(parsed(text)["GIE scale"])  # in six digits; the report has four, so it may be rounded otherwise
    assert written == pytest.approx(-scale, abs=6e-5)
    assert read_request([values]) == Request((Concept("banana", round(written, 4)),), "Fixed scale", scale=-1.0)


def test_each_concept_has_the_best_that_there_is(kept, tmp_path, capsys):
    found, text = erase(capsys, tmp_path, "banana:0.5, knife, apple", "--steps", "2", "--no-calibrate")
    assert [one["by"] for one in found] == [
        f"calibration {BANANA}", "adapter demo-knife", f"fixed scale {load_fixed_scale():g}"
    ]  # fmt: skip
    assert found[2]["why"] == "no adapter is for it, and it is not calibrated"
    assert found[2]["scales"] == [[load_fixed_scale()]]
    assert "GIE adapter: Automatic" in text
    names = parsed(text)["GIE adapters"].split("; ")
    assert [name.partition(" [")[0] for name in names] == [BANANA, "demo-knife", "Fixed scale"]
    values, notice = read_params(
        parsed(text), Here(lambda name, digest: find_recorded(name, digest, [MODELS, kept]).name)
    )
    assert notice == ""
    assert read_request([values]).adapter == "Automatic"


def test_a_concept_that_nothing_is_there_for_is_calibrated(shared, cache, tmp_path, capsys):
    cache.mkdir(parents=True)
    for path in (shared[0] / cache.name).glob("neutral-*"):
        shutil.copy(path, cache)
    (concept,), _ = erase(capsys, tmp_path, "banana", "--steps", "2")
    assert concept["by"] == f"calibration {BANANA}"
    assert concept["why"].startswith("no adapter is for it; it was calibrated now, in ")
    assert concept["why"].endswith(" UNet evaluations, of which 398 were kept from an earlier calibration")
    assert (cache / f"{BANANA}.safetensors").is_file()


def test_what_cannot_be_calibrated_has_the_fixed_scale(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibrating.PipelinePredictor, "predict", lambda self, *args: args[0] * float("nan"))
    (concept,), _ = erase(capsys, tmp_path, "banana", "--steps", "2")
    assert concept["by"] == f"fixed scale {load_fixed_scale():g}"
    assert "it cannot be calibrated: " in concept["why"]


@pytest.mark.parametrize(
    ("more", "by", "why"),
    [
        (["--scale", "-2"], "fixed scale -2", "--scale says so"),
        (["--adapter", "demo-wine"], "adapter demo-wine", "--adapter names it"),
        (["--rule", "value projection"], "fixed scale -1", "it is the usual one of value projection"),
    ],
)
def test_what_the_command_was_told_to_take(cache, tmp_path, capsys, more, by, why):
    (concept,), _ = erase(capsys, tmp_path, "banana", "--steps", "2", *more)
    assert (concept["by"], concept["why"]) == (by, why)
    assert not cache.exists()


def test_a_kept_calibration_has_a_name(kept, tmp_path, capsys):
    """The one that calibrate gave it, with or without its ending."""
    for name in (BANANA, f"{BANANA}.safetensors"):
        (concept,), _ = erase(capsys, tmp_path, "banana", "--steps", "2", "--adapter", name)
        assert (concept["by"], concept["why"]) == (f"calibration {BANANA}", "--adapter names it")


def test_where_an_adapter_was_looked_for(cache, tmp_path, capsys):
    said = fails(capsys, "erase", "a dog", "--erase", "knife", "--out", str(tmp_path), "--adapter", "demo-gun")
    assert f"there is no adapter file 'demo-gun', and none of that name in {MODELS}, {cache}" in said


# -- demo ------------------------------------------------


def test_the_demo_says_which_scale_it_took_and_why(kept, tmp_path, capsys):
    own = ["demo", "--out", str(tmp_path), "--prompt", "a picnic", "--seed", "3", "--erase"]
    assert main([*own, "banana"]) == 0
    table = capsys.readouterr().out
    assert "| scale " in table
    assert f"| calibration {BANANA} | no adapter is for it; it was calibrated before |" in table
    found = {}
    for name, *more in (("knife",), ("apple", "--no-calibrate"), ("banana", "--scale", "-2")):
        assert main([*own, name, "--json", *more]) == 0
        (found[name],) = json.loads(capsys.readouterr().out)
    assert found["knife"]["by"] == "adapter demo-knife"
    assert found["knife"]["scale"] > -0.2  # a picnic has none
    assert found["apple"]["why"] == "no adapter is for it, and it is not calibrated"
    assert (found["banana"]["by"], found["banana"]["scale"]) == ("fixed scale -2", -2)


def ways_of_telling(prompt: str, concept: str) -> list[str]:
    """By which of these a prompt tells of a thing."""
    scenes = [phrase for phrase, objects in IMPLICIT.items() if concept in objects]
    phrases = {"named": [concept], "synonym": UNWANTED[concept].synonyms, "implied": scenes}
    return [way for way, told in phrases.items() if any(f" {phrase} " in f" {prompt} " for phrase in told)]


def test_the_demo_has_twelve_prompts():
    """Of things with an adapter, of a style, of a thing in a picture in a style, and of what is calibrated."""
    plain, (of_style, in_style), calibrated = demo.PROMPTS[:8], demo.PROMPTS[8:10], demo.PROMPTS[10:]
    assert (len(demo.PROMPTS), len(calibrated)) == (12, 2)
    assert {concept for _, concept, _ in plain} == set(UNWANTED)
    ways = [way for prompt, concept, _ in plain for way in ways_of_telling(prompt, concept)]
    assert sorted(ways) == ["implied"] * 3 + ["named"] * 4 + ["synonym"]
    assert of_style[1] in STYLE_OF
    assert of_style[1] in of_style[0]
    assert in_style[1] in in_style[0].split()
    assert any(style in in_style[0] for style in STYLE_OF)
    assert not [word for prompt, concept, _ in demo.PROMPTS for word in unknown_words(f"{prompt} {concept}")]


def test_the_demo_shows_a_calibration(shared, cache, tmp_path, capsys, monkeypatch):
    """Of a concept that no adapter is shipped for, made on the way; its prompts name it and imply it."""
    shipped = {concept for found in list_adapters([MODELS])[0] for concept in found.info.concepts}
    lacking = [one for one in demo.PROMPTS if one[1] not in shipped]
    assert lacking == list(demo.PROMPTS[-2:])
    monkeypatch.setattr(demo, "PROMPTS", lacking)
    cache.mkdir(parents=True)
    for path in (shared[0] / cache.name).glob("neutral-*"):
        shutil.copy(path, cache)
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    for found in json.loads(capsys.readouterr().out):
        assert (found["erased"], found["by"]) == ("banana", f"calibration {BANANA}")
        assert found["why"].startswith("no adapter is for it; it was calibrated now, in ")
        assert "banana" in found["before"]
        assert "banana" not in found["after"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert main(["demo", "--out", str(tmp_path), "--no-calibrate", "--json"]) == 0
    for found in json.loads(capsys.readouterr().out):
        assert found["why"] == "no adapter is for it, and it is not calibrated"
