"""The commands, on the shipped demo model."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_webui_infotext import parsed

from lib_gie import cli
from lib_gie.assets import DEMO_FIXED_SCALE, MODELS
from lib_gie.cli import main
from lib_gie.cli.erase import FILES
from lib_gie.cli.pages import END, begin
from lib_gie.core.concepts import Concept, parse_concepts
from lib_gie.core.scales.adapter import load_adapter
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.world.detector import VERSION
from lib_gie.demo.world.things import UNWANTED
from lib_gie.hosts.library import find_recorded
from lib_gie.hosts.webui.request.parsing import Request, read_request
from lib_gie.hosts.webui.request.pasting import Here, read_params


@pytest.fixture(autouse=True)
def no_calibrations(tmp_path_factory, monkeypatch):
    """Calibrations of whoever runs the tests are neither taken nor added to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def fails(capsys, *arguments: str) -> str:
    """The one line on standard error of a call that must end with exit code 2 and print nothing else."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_erase_removes_the_object_and_keeps_the_other(tmp_path, capsys):
    arguments = ["erase", "a cat and a knife", "--erase", "knife", "--seed", "37", "--out", str(tmp_path), "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["prompt"] == "a cat and a knife"
    assert report["seed"] == 37
    assert report["concepts"][0]["text"] == "knife"
    assert report["concepts"][0]["tokens"] == ["knife</w>"]
    assert report["concepts"][0]["scales"][0][0] < 0
    assert report["seconds_before"] > 0
    assert report["seconds_after"] > 0
    assert set(report["objects_before"]) == {"cat", "knife"}
    assert set(report["objects_after"]) == {"cat"}
    assert report["styles_before"] == report["styles_after"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    before, after = (Image.open(tmp_path / name) for name in FILES[:2])
    assert before.size == after.size == (64, 64)
    texts = {name: Image.open(tmp_path / name).text.get("parameters", "") for name in FILES}
    for name in FILES[:2]:
        assert texts[name].startswith("a cat and a knife\n")
        assert "Seed: 37, Size: 64x64" in texts[name]
    assert "GIE" not in texts["before.png"]
    adapter = load_adapter(MODELS / "demo-knife.safetensors")
    assert report["concepts"][0]["by"] == "adapter demo-knife"
    assert report["concepts"][0]["why"] == "it was trained for this concept"
    scale = f"{report['concepts'][0]['scales'][0][0]:.3g}"
    named = f"GIE concepts: knife, GIE adapter: demo-knife [{adapter.weights_digest[:10]}], GIE scale: {scale}"
    assert named in texts["after.png"]
    assert texts["attention.png"] == texts["comparison.png"] == ""  # no images of these parameters


def test_erase_removes_a_style_and_keeps_what_the_picture_shows(tmp_path, capsys):
    arguments = ["erase", "a pencil sketch of a cat", "--erase", "pencil sketch", "--seed", "6", "--out"]
    assert main([*arguments, str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "by adapter demo-style-pencil: it was trained for this concept\n" in said
    assert "shown without: cat; pencil sketch\n" in said
    assert "shown with:    cat\n" in said
    assert main([*arguments, str(tmp_path), "--count", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [image["styles_before"] for image in report["images"]] == [["pencil sketch"]] * 2
    assert report["images"][0]["styles_after"] == []


def test_erase_is_reproducible_and_count_continues_the_seeds(tmp_path, capsys):
    shared = ["--erase", "wine, knife:0.5", "--steps", "4", "--scale", "-2", "--json"]
    outputs = []
    for name, extra in (("a", ["--seed", "5"]), ("b", ["--seed", "5"]), ("c", ["--seed", "4", "--count", "3"])):
        assert main(["erase", "a robbery", "--out", str(tmp_path / name), *shared, *extra]) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert (tmp_path / "a" / "after.png").read_bytes() == (tmp_path / "b" / "after.png").read_bytes()
    assert [image["seed"] for image in outputs[2]["images"]] == [4, 5, 6]
    assert [concept["scales"] for concept in outputs[2]["concepts"]] == [[[-2.0]] * 3, [[-1.0]] * 3]
    row = Image.open(tmp_path / "c" / "after.png")
    assert row.size == (192, 64)
    alone = Image.open(tmp_path / "a" / "after.png")
    difference = max(abs(a - b) for a, b in zip(row.crop((64, 0, 128, 64)).tobytes(), alone.tobytes(), strict=True))
    assert difference <= 2


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_erase_with_scale_zero_changes_nothing(tmp_path, capsys, concept_pass):
    arguments = ["--scale", "0", "--steps", "3", "--concept-pass", concept_pass, "--negative", "a dog", "--cfg", "6"]
    assert main(["erase", "a cat", "--erase", "knife", "--out", str(tmp_path), *arguments]) == 0
    before, after = (Image.open(tmp_path / name).tobytes() for name in FILES[:2])
    assert before == after
    assert "Negative prompt: a dog" in Image.open(tmp_path / "after.png").text["parameters"]


def test_erase_shows_attention_and_keeps_the_composition(tmp_path, capsys):
    shared = ["--erase", "knife, wine", "--steps", "4", "--scale", "-3", "--seed", "10", "--json"]
    options = {"plain": [], "kept": ["--keep-composition", "--attention"], "again": ["--keep-composition"]}
    options["none"] = ["--keep-composition", "--composition-cross", "0", "--composition-self", "0"]
    files = {}
    for name, more in options.items():
        assert main(["erase", "a cat and a knife", "--out", str(tmp_path / name), *shared, *more]) == 0
        files[name] = [Path(path).name for path in json.loads(capsys.readouterr().out)["files"]]
    assert files["kept"] == [*FILES, "attention-1.png", "attention-2.png"]
    assert all((tmp_path / "kept" / name).exists() for name in files["kept"])
    pictures = {name: Image.open(tmp_path / name / "after.png") for name in options}
    assert pictures["kept"].tobytes() == pictures["again"].tobytes() != pictures["plain"].tobytes()
    assert pictures["none"].tobytes() == pictures["plain"].tobytes()
    assert "GIE keep composition: True" in pictures["kept"].text["parameters"]
    assert "GIE composition: 0 and 0" in pictures["none"].text["parameters"]


OPTIONS = ["--strength", "0.5", "--start", "0.1", "--end", "0.8", "--concept-pass", "separate"]


@pytest.mark.parametrize("more", [["--scale", "-2.5", *OPTIONS], ["--adapter", "demo-knife"], ["--keep-composition"]])
def test_the_webui_reads_what_the_command_wrote(tmp_path, more):
    """The same concepts, scale or adapter, steps and pass, and nothing that it does not know."""
    concepts = ["--erase", 'knife, "a cat: wine, a cat":0.5, wine'] if "--scale" in more else ["--erase", "knife"]
    assert main(["erase", "a knife", *concepts, "--steps", "2", "--out", str(tmp_path), *more]) == 0
    values, notice = read_params(parsed(Image.open(tmp_path / "after.png").text["parameters"]), Here(_shipped))
    assert notice == ""
    request = read_request([values])
    if "--scale" in more:
        wanted = (Concept("knife"), Concept("a cat: wine, a cat", 0.5), Concept("wine"))
        assert request == Request(wanted, "Fixed scale", 0.5, -2.5, 0.1, 0.8, "separate")
    else:
        assert request == Request((Concept("knife"),), "demo-knife", keep_composition="--keep-composition" in more)
    assert read_params(parsed(Image.open(tmp_path / "before.png").text["parameters"]), Here(_shipped)) == (None, "")


def _shipped(name: str, digest: str | None) -> str:
    return find_recorded(name, digest, [MODELS]).name


def test_unknown_words(tmp_path, capsys):
    out = str(tmp_path / "x")
    line = fails(capsys, "erase", "a cat", "--erase", "gun", "--out", out)
    assert "gun" in line
    assert "umbrella" in line
    assert not (tmp_path / "x").exists()
    assert main(["erase", "a cat and a spoon", "--erase", "knife", "--out", out, "--steps", "2"]) == 0
    warning = capsys.readouterr().err
    assert "does not know the word spoon of the prompt" in warning


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "prompt"),
        (["a cat"], "--erase"),
        (["a cat", "--erase", "knife"], "--out"),
        (["a cat", "--erase", "", "--out", "OUT"], "empty"),
        (["a cat", "--erase", ",", "--out", "OUT"], "names nothing"),
        (["a cat", "--erase", "knife:x", "--out", "OUT"], "number"),
        (["a cat", "--erase", "knife " * 76, "--out", "OUT"], "76 tokens"),
        ([" ", "--erase", "knife", "--out", "OUT"], "prompt is empty"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--scale", "1"], "from -20"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--scale", "nan"], "scale"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--scale", "-3", "--adapter", "x"], "both"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--adapter", "missing"], "no adapter file"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--adapter", __file__], "safetensors"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--strength", "4"], "strength"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--start", "0.8", "--end", "0.2"], "below end"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--steps", "0"], "steps"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--seed", "-1"], "seed"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--cfg", "inf"], "cfg"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--count", "1000"], "count"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--concept-pass", "both"], "concept-pass"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--composition-self", "0.5"], "goes with --keep-composition"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--keep-composition", "--composition-cross", "2"], "cross"),
        (["a cat", "--erase", "knife", "--out", "OUT", "--model", "missing"], "no model"),
        (["a cat", "--erase", "knife", "--out", __file__], "is a file"),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, says):
    arguments = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    assert says in fails(capsys, "erase", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["erase", "--nonsense"], ["evaluate", "--set", "nonsense"]])
def test_bad_commands(capsys, arguments):
    fails(capsys, *arguments)


def test_scales_are_chosen_on_validation_only(capsys):
    assert "--set validation" in fails(capsys, "evaluate", "--set", "heldout", "--choose-scale")
    assert json.loads(DEMO_FIXED_SCALE.read_text())["chosen_on"] == "validation"


def finished_bars(shown: str) -> set[str]:
    """Totals of the progress bars that ran to their end."""
    return set(re.findall(r"\b(\d+)/\1 \[", shown))


def test_evaluate_prints_a_row_per_method_and_kind(tmp_path, capsys):
    page = tmp_path / "page.md"
    arguments = [
        "evaluate",
        "--concepts",
        "knife",
        "--seeds",
        "1",
        "--methods",
        "none",
        "--report",
        str(page),
        "--json",
    ]
    assert main([*arguments, "--keep", str(tmp_path / "kept")]) == 0
    captured = capsys.readouterr()
    rows = {row["prompts"]: row for row in json.loads(captured.out)}
    assert {row["method"] for row in rows.values()} == {"none"}
    counts = {"named": 10, "implied": 8, "unrelated": 5}
    assert {kind: rows[kind]["n"] for kind in counts} == counts
    named, unrelated = rows["named"], rows["unrelated"]
    assert named["left"] == named["kept"] == named["unharmed"] == unrelated["ssim"] == 1
    assert unrelated["left"] is unrelated["left_ci"] is None
    assert "| none " in captured.err
    assert "| none " in page.read_text(encoding="utf-8")
    assert main([*arguments, "--keep", str(tmp_path / "kept")]) == 0
    again = capsys.readouterr()
    assert again.out == captured.out
    assert finished_bars(again.err) < finished_bars(captured.err)  # the images are known already


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "magic"], "no method 'magic'"),
        (["--scale", "2"], "from -20"),
        (["--adapter", "missing"], "no adapter file"),
        (["--seeds", "9"], "--seeds is 9"),
        (["--end", "0.5"], "go with --scale"),
        (["--concepts", "gun"], "takes some of knife"),
    ],
)
def test_evaluate_refuses(capsys, arguments, says):
    assert says in fails(capsys, "evaluate", *arguments)


def test_demo_with_a_prompt_of_ones_own(tmp_path, capsys):
    arguments = ["demo", "--out", str(tmp_path), "--prompt", "a duel", "--erase", "sword", "--seed", "2", "--json"]
    assert main(arguments) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert "sword" in result["before"]
    assert "sword" not in result["after"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 600
    assert "give both, or neither" in fails(capsys, "demo", "--prompt", "a duel")
    assert "does not know" in fails(capsys, "demo", "--prompt", "a battle", "--erase", "sword")


def test_train_makes_an_adapter_that_the_other_commands_take(tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    other = ("cat", "dog", "apple", "car", "house", "tree", "rose", "star")
    lines = [f"a {name} and a knife" for name in other] + ["[unrelated]"] + [f"a {name} and a fish" for name in other]
    prompts.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "knife.safetensors"
    shared = ["train", "--concept", "knife", "--prompts", str(prompts), "--labels", str(tmp_path / "labels"), "--json"]
    arguments = [*shared, "--out", str(out), "--seeds", "1", "--steps", "6", "--epochs", "50"]
    assert main(arguments) == 0
    written = capsys.readouterr()
    report = json.loads(written.out)
    assert report["file"] == str(out)
    steps = re.findall(r"step \d of \d: .*", written.err)
    assert steps == [
        "step 1 of 4: calibrating knife", "step 2 of 4: reading the prompts' attention",
        "step 3 of 4: making and judging images for knife, in rounds, after each of which an adapter is fitted",
        "step 4 of 4: fitting the adapter",
    ]  # fmt: skip
    extent = r"knife: 16 prompts to read. Images to make: usually 16 to \d+, at most \d+. Time: "
    assert re.search(extent, written.err)
    assert (report["prompts"], report["unrelated_prompts"]) == (16, 8)
    assert (report["labelled"], report["presumed_prompts"]) == (8, 0)  # one round; none of the unrelated prompts
    assert 8 <= report["images"] <= 20  # without erasure and, where it shows, at the calibrated scale
    assert 4 <= report["shown_without_erasure"] <= 8
    info = load_adapter(out).info
    assert info.base == "gie-demo"
    assert info.training["judge"] == [f"detector {VERSION}"]
    assert info.validation["constant_error"] == report["constant_error"]
    tried = shlex.split(written.err.rpartition("python -m lib_gie ")[2])
    assert tried[1].endswith(" and a knife")
    assert tried[2:6] == ["--erase", "knife", "--adapter", str(out)]
    erase = ["erase", "a cat and a knife", "--erase", "knife", "--out", str(tmp_path), "--adapter", str(out), "--json"]
    assert main(erase) == 0
    (scale,), = json.loads(capsys.readouterr().out)["concepts"][0]["scales"]  # fmt: skip
    strongest = min(info.label_range[0], default_scale("gie-demo"))  # the prompt names the concept
    assert strongest <= scale <= 0
    assert info.reading.size == (8, 8)
    there = out.read_bytes()
    assert "knife.safetensors is there already; take another name, or give --replace" in fails(capsys, *arguments)
    assert out.read_bytes() == there
    arguments.append("--replace")
    assert main([*arguments, "--label", "all", "--read-at", "half"]) == 0
    written = capsys.readouterr()
    assert "step 3 of 3: fitting the adapter" in written.err
    assert "Time: " in written.err
    whole = json.loads(written.out)
    assert whole["labelled"] == 8
    assert whole["images"] > report["images"]  # a whole search for each
    info = load_adapter(out).info
    assert "--label all --read-at half" in info.training["command"]
    assert "--replace" not in info.training["command"]
    assert info.reading.size == (4, 4)
    assert main(erase) == 0  # it reads as it was fitted
    (scale,), = json.loads(capsys.readouterr().out)["concepts"][0]["scales"]  # fmt: skip
    assert min(info.label_range[0], strongest) <= scale <= 0
    assert main([*arguments, "--recipe", "paper", "--own", "label", "loss"]) == 0  # the labels are there already
    assert json.loads(capsys.readouterr().out)["labelled"] == 8
    assert "--recipe paper --own label loss" in load_adapter(out).info.training["command"]
    assert "--own goes with --recipe paper" in fails(capsys, *arguments, "--own", "loss")
    assert "cannot be read" in fails(capsys, "train", "--concept", "knife", "--prompts", "nowhere", "--out", "x")
    assert "--seeds is 0" in fails(capsys, "train", "--concept", "knife", "--out", "x", "--seeds", "0")


def test_help_needs_no_heavy_library():
    code = "import sys; from lib_gie.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'diffusers', 'transformers', 'PIL'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "erase" in done.stdout


def test_the_core_imports_no_host():
    code = "import sys, lib_gie.core.session, lib_gie.core.scales.adapter, lib_gie.core.erasure\n"
    code += "assert not {'modules', 'gradio', 'diffusers', 'transformers', 'PIL', 'numpy.f2py'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_adapters_lists_what_ships(tmp_path, capsys):
    assert main(["adapters", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == {f"demo-{name}" for name in (*UNWANTED, "style-pencil", "style-neon", "joint", "six")}
    for name, style in (("demo-style-pencil", "pencil sketch"), ("demo-style-neon", "neon sign")):
        assert listed[name]["concepts"] == listed[name]["automatic"] == [style]
    for entry in listed.values():
        assert (entry["base"], entry["inputs"]) == ("gie-demo", 128 + 2 * 256)  # of the attention, and predicted twice
        assert entry["training"]["judge"] == [f"detector {VERSION}"]
        assert entry["training"]["command"].startswith("python -m lib_gie train --concept ")
        assert entry["validation"]["better_than_constant"] is True
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin('adapters --page docs/ADAPTERS.md')}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["adapters", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "| demo-knife " in text
    capsys.readouterr()
    page.write_text("nothing", encoding="utf-8")
    assert "lacks the lines" in fails(capsys, "adapters", "--page", str(page))
    assert "there are no adapters" in fails(capsys, "adapters", "--folder", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["judge", "--judge", "oracle"], "no judge 'oracle'"),
        (["judge", "--seeds", "0"], "--seeds is 0"),
        (["judge", "--choices", "--json"], "--choices goes with"),
        (["judge", "--page", "no such page"], "there is no such file; name a Markdown page"),
        (["evaluate", "--record"], "--record goes with --adapter"),
        (["evaluate", "--record", "--adapter", "demo-knife", "--strength", "0.5"], "--record goes with"),
        (["train", "--concept", "knife", "--out", "x", "--margin", "0.5"], "--margin is 0.5"),
        (["train", "--concept", "knife", "--out", "x", "--steepness", "11"], "--steepness is 11"),
        (["train", "--concept", "knife", "--out", "x", "--leave-out", "no such words"], "in no prompt"),
        (
            ["train", "--concept", "knife", "--out", "x", "--leave-out", ""],
            "leaves no prompt that names or implies",
        ),
    ],
)
def test_more_that_is_refused(capsys, arguments, says):
    assert says in fails(capsys, *arguments)


def test_an_adapter_that_ships_leaves_unrelated_images_alone(capsys, tmp_path):
    """With the demo model: a knife that the prompt names is gone, and where there is none nothing changes."""
    shared = ["--erase", "knife", "--adapter", "demo-knife", "--seed", "11", "--out", str(tmp_path), "--json"]
    scales = {}
    for prompt in ("a cat and a knife", "a robbery", "a dog and a tree"):
        assert main(["erase", prompt, *shared]) == 0
        (scales[prompt],), = json.loads(capsys.readouterr().out)["concepts"][0]["scales"]  # fmt: skip
    assert scales["a cat and a knife"] < -0.8
    assert scales["a robbery"] < -0.8
    assert scales["a dog and a tree"] > -0.2


def test_every_command_computes_where_its_process_does():
    """A model that is loaded without a device stays on the CPU, also where there is a GPU."""
    loads = 0
    for path in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_pipeline":
                loads += 1
                given = [*node.args[1:], *(word.value for word in node.keywords if word.arg == "device")]
                assert [ast.unparse(value) for value in given] == ["processes.device()"], path.name
    assert loads >= 5


def test_what_set_a_scale_is_named_also_where_the_fixed_scale_took_over():
    """In all images, in some, in none."""
    from types import SimpleNamespace

    from lib_gie.cli.erase import _in_words
    from lib_gie.cli.scales import setters
    from lib_gie.core.scales.scale_rules import Replacement

    named, strange = (Replacement(-1.0, "adapter", why) for why in ("a: b", "c"))
    replaced = {0: (None, named, named), 1: (None, strange, None)}
    eraser = SimpleNamespace(erasure=SimpleNamespace(replacements=replaced.get))
    choices = [SimpleNamespace(by=f"adapter {name}", why="trained") for name in ("a", "b", "c")]
    assert setters(eraser, choices, 2) == [
        ("adapter a", "trained"),
        ("the fixed scale, stronger than that of the adapter b", "a: b; c"),
        ("the fixed scale in 1 of 2 images, stronger than that of the adapter c", "a: b"),
    ]
    assert [_in_words(scales) for scales in ([-1.0, -1.0], [-1.0, -2.0, -1.0])] == ["-1.00", "-1.00 -2.00 -1.00"]


def test_notes_on_several_images_are_one():
    from lib_gie.cli.erase import _together

    notes = ["image 1, 'a': why", "of all", "image 2, 'a': why", "image 2, 'b': why", "of all"]
    assert _together(notes) == ["images 1, 2, 'a': why", "of all", "image 2, 'b': why"]


def test_of_several_images_it_is_counted_in_how_many_a_concept_shows():
    from lib_gie.cli.erase import _counts

    one = {
        "seed": 7,
        "objects_before": ["knife", "cat"],
        "styles_before": [],
        "objects_after": ["cat"],
        "styles_after": [],
    }
    two = {
        "seed": 8,
        "objects_before": ["cat"],
        "styles_before": ["neon sign"],
        "objects_after": ["cat"],
        "styles_after": [],
    }
    report = {"concepts": [{"text": "knife"}, {"text": "neon sign"}, {"text": "cat"}], "images": [one, two]}
    assert _counts(report) == [
        "knife: in 1 of 2 images without, in 0 with",
        "neon sign: in 1 of 2 images without, in 0 with",
        "cat: in 2 of 2 images without, in 2 with (seed 7, 8)",
    ]
    assert _counts({**report, "images": [one]}) == []


def test_an_interrupted_training_says_how_it_goes_on(tmp_path, monkeypatch, capsys):
    from lib_gie.cli import train

    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", interrupt)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--concept", "knife", "--out", "x.safetensors", "--labels", str(tmp_path / "kept")]) == 130
    assert "is kept in" in (said := capsys.readouterr().err)
    assert "the same command goes on from there" in said


@pytest.mark.parametrize(
    ("concepts", "prompt", "out", "words"),
    [
        (["knife"], "a knife", "my-knife", ["a knife", "--erase", "knife", "--adapter", "my-knife"]),
        (["wine, red", "a: b"], "a cat", "x.safetensors", ["a cat", "--erase", '"wine, red", "a: b"', "--adapter",
                                                         "x.safetensors"]),
        (["3:2"], "it's one", "o/x.safetensors", ["it's one", "--erase", '"3:2"', "--adapter", "o/x.safetensors"]),
    ],
)  # fmt: skip
def test_the_adapter_is_tried_on_what_it_was_trained_for(concepts, prompt, out, words):
    """By the concepts as they are read again, and by a prompt that means the same without the WebUI."""
    from lib_gie.cli.training_told import trial
    from lib_gie.training.labels import Sample

    options = argparse.Namespace(out=out, model=Path("a b.safetensors"))
    path = Path(out) if out.endswith(".safetensors") else Path("models", f"{out}.safetensors")
    prompts = ["- a", "a (cat:1.2)", prompt]
    samples = [Sample("a tree", 1, "unrelated"), *(Sample(text, 1, "explicit") for text in prompts)]
    told, command = trial(options, path, dict.fromkeys(concepts, samples)).split("\n")
    assert told == "Try the adapter (its prompt names the concept, so the fixed scale may be stronger):"
    expected = ["erase", *words, "--model", "a b.safetensors", "--count", "4", "--out", f"out-{path.stem}"]
    assert shlex.split(command)[3:] == expected
    assert [concept.text for concept in parse_concepts(words[2])] == concepts


def test_an_adapter_that_was_saved_meanwhile_is_not_lost(tmp_path, capsys):
    from lib_gie.cli.train import _free

    options = argparse.Namespace(out=str(tmp_path / "a.safetensors"), replace=False)
    assert _free(options) == tmp_path / "a.safetensors"
    assert capsys.readouterr().err == ""
    for name in ("a", "a-2"):
        (tmp_path / f"{name}.safetensors").touch()
    assert _free(options) == tmp_path / "a-3.safetensors"
    assert "another adapter was saved as" in capsys.readouterr().err
    options.replace = True
    assert _free(options) == tmp_path / "a.safetensors"


def test_a_command_to_paste_is_one_on_windows_as_well():
    """Its command prompt knows no single quotes."""
    from lib_gie.cli.training_told import for_shell

    words = ["python", "erase", "a house and a knife", "--erase", "knife"]
    assert for_shell(words, is_windows=True) == 'python erase "a house and a knife" --erase knife'
    assert shlex.split(for_shell(words, is_windows=False)) == words


def test_an_adapters_name_may_be_that_of_a_folder_here(tmp_path, monkeypatch):
    from lib_gie.cli.scales import adapter_path

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-knife").mkdir()
    assert adapter_path("demo-knife").suffix == ".safetensors"
