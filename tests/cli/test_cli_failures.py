"""What goes wrong at the command line: one line that says it, before the work, whatever it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import not_run
import pytest
import torch
from safetensors.torch import save_file
from test_cli import fails

import lib_gie.cli.erase
from lib_gie.assets import DEMO_CHECKPOINT
from lib_gie.cli import COMMANDS, main
from lib_gie.cli.outputs import check_file, check_folder, write_file
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import OptionError
from lib_gie.hosts.diffusers import load_pipeline
from lib_gie.hosts.diffusers.files import checkpoint_digest
from lib_gie.hosts.diffusers.loading import ModelError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4265146304\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"
CONTENTS = {
    "empty": (b"", "is empty"),
    "broken": (b"nonsense" * 100, "is no safetensors file"),
    "short": (b"\x00\x01", "breaks off"),
    "header": (b"\x08\0\0\0\0\0\0\0nonsense", "header of .* cannot be read"),
    "list": (b"\x02\0\0\0\0\0\0\0[]", "header of .* cannot be read"),
    "pointer": (POINTER, "Git LFS pointer"),
    "page": (PAGE, "web page"),
    "pickle": (b"PK\x03\x04...", "pickle"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The demo model as a diffusers folder."""
    made = tmp_path_factory.mktemp("models") / "demo"
    load_pipeline().save_pretrained(made)
    return made


@pytest.mark.parametrize("content", CONTENTS)
def test_files_that_are_no_model(tmp_path, content):
    data, says = CONTENTS[content]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=says) as raised:
        load_pipeline(path)
    assert "model.safetensors" in str(raised.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_download_that_broke_off(tmp_path, share):
    data = DEMO_CHECKPOINT.read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match="breaks off"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("conditioner.embedders.0.transformer.x", "checkpoint of SDXL"),
        ("cond_stage_model.model.transformer.x", "checkpoint of SD 2.x"),
        ("model.diffusion_model.joint_blocks.0.x", "checkpoint of SD3"),
        ("lora_unet_down.weight", "it is a LoRA"),
        ("hidden.0.weight", "it is an adapter"),
        ("anything", "has no UNet"),
        ("model.diffusion_model.x", "lacks .* text encoder"),
    ],
)
def test_checkpoints_of_other_kinds(tmp_path, key, says):
    save_file({key: torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=says):
        load_pipeline(tmp_path / "model.safetensors")


def test_a_checkpoint_without_what_lies_beside_it(tmp_path):
    """The demo's copied elsewhere: alone, with its text encoder and without its .yaml, with both."""
    path = Path(shutil.copy(DEMO_CHECKPOINT, tmp_path / "copy.safetensors"))
    with pytest.raises(ModelError, match=r"another size needs its \.yaml and its folder text_encoder beside it"):
        load_pipeline(path)
    shutil.copytree(DEMO_CHECKPOINT.parent / "text_encoder", tmp_path / "text_encoder")
    with pytest.raises(ModelError, match=r"does not fit SD 1\.x, and there is no copy\.yaml beside it"):
        load_pipeline(path)
    shutil.copy(DEMO_CHECKPOINT.with_suffix(".yaml"), tmp_path / "copy.yaml")
    assert load_pipeline(path).unet.config.in_channels == 4


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"no model_index\.json and is no diffusers folder"):
        load_pipeline(tmp_path)
    for name in ("b.ckpt", "a.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"holds the files a\.safetensors, b\.ckpt: give one of them"):
        load_pipeline(tmp_path)


def _class(name: str, **more):
    def change(folder: Path) -> None:
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": name} | more), encoding="utf-8")

    return change


def _weights(data: bytes | None):
    def change(folder: Path) -> None:
        path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        path.unlink() if data is None else path.write_bytes(data)

    return change


def _fp16(folder: Path) -> None:
    for path in folder.glob("*/*model.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_class("StableDiffusionXLPipeline"), "is a StableDiffusionXLPipeline"),
        (_class("StableDiffusion3Pipeline"), "is a StableDiffusion3Pipeline"),
        (_class("CustomPipeline", text_encoder_2=["transformers", "CLIPTextModel"]), "is a CustomPipeline"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "model_index.json").write_text("[]"), "does not name a pipeline"),
        (lambda folder: shutil.rmtree(folder / "unet"), "lacks unet"),
        (lambda folder: (folder / "unet" / "config.json").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{}"), "cannot be loaded"),
        (_fp16, r"variant fp16 alone; take '\.fp16' out"),
        (_weights(None), "holds no weights"),
        (_weights(b""), "is empty"),
        (_weights(POINTER), "Git LFS pointer"),
    ],
)
def test_folders_that_lack_something(tmp_path, folder, change, says):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    change(copy)
    with pytest.raises(ModelError, match=says):
        load_pipeline(copy)


def test_a_folder_whose_names_have_lost_their_variant_loads(tmp_path, folder):
    assert load_pipeline(folder).unet.config.in_channels == 4


@pytest.mark.parametrize("command", ["erase", "train", "evaluate", "quality"])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, capsys, command):
    path = tmp_path / "model.safetensors"
    path.write_bytes(PAGE)
    arguments = {
        "erase": ["a cat", "--erase", "knife", "--out", str(tmp_path / "out")],
        "train": ["--concept", "knife", "--prompts", "object", "--out", str(tmp_path / "a.safetensors")],
        "evaluate": ["--methods", "none"],
        "quality": [],
    }
    assert "is a web page" in fails(capsys, command, *arguments[command], "--model", str(path))


# -- where to write ------------------------------------------------


@pytest.fixture
def no_model(monkeypatch):
    """No model may be loaded."""

    def load(*args, **options):
        raise AssertionError("a model was loaded before the places to write to were looked at")

    monkeypatch.setattr("lib_gie.hosts.diffusers.load_pipeline", load)
    monkeypatch.setattr("lib_gie.hosts.diffusers.loading.load_pipeline", load)
    monkeypatch.setattr("lib_gie.hosts.diffusers.image_maker.load_pipeline", load)


def _arguments(command: str, place: Path) -> list[str]:
    return {
        "erase": ["erase", "a cat", "--erase", "knife", "--out", str(place)],
        "demo": ["demo", "--out", str(place)],
        "train": ["train", "--concept", "knife", "--out", str(place / "x.safetensors")],
        "labels": ["train", "--concept", "knife", "--out", "x", "--labels", str(place)],
        "report": ["evaluate", "--report", str(place / "page.md")],
        "keep": ["evaluate", "--keep", str(place)],
        "convert": ["convert", "x.pth", "--concept", "knife", "--out", str(place / "x.safetensors")],
    }[command]


WRITERS = ["erase", "demo", "train", "labels", "report", "keep", "convert"]


@pytest.mark.parametrize("command", WRITERS)
def test_no_work_is_begun_that_could_not_be_written(tmp_path, capsys, no_model, command):
    """A place below a file, a name that is too long, and a path that is."""
    (tmp_path / "file").touch()
    for place, says in (
        (tmp_path / "file" / "below", "is a file"),
        (tmp_path / ("n" * 300) / "more", "too long"),
        (tmp_path / "/".join(["n" * 200] * 30), "too long"),
        (Path("nul\0letter"), "cannot be used"),
    ):
        assert says in fails(capsys, *_arguments(command, place))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("command", "name"),
    [("erase", "before.png"), ("demo", "sheet.png"), ("train", "x.safetensors"), ("report", "page.md")],
)
def test_a_folder_where_a_file_goes(tmp_path, capsys, no_model, command, name):
    (tmp_path / name).mkdir()
    assert f"{name}, which is a folder" in fails(capsys, *_arguments(command, tmp_path))


def test_a_folder_where_a_picture_of_the_attention_goes(tmp_path, capsys, no_model):
    (tmp_path / "attention-2.png").mkdir()
    arguments = ["erase", "a cat", "--erase", "knife, wine", "--attention", "--out", str(tmp_path)]
    assert "attention-2.png, which is a folder" in fails(capsys, *arguments)


@pytest.mark.parametrize("command", ["judge", "bench", "adapters"])
def test_pages_that_cannot_be_written(tmp_path, capsys, no_model, command):
    assert "which is a folder" in fails(capsys, command, "--page", str(tmp_path))
    (tmp_path / "page.md").write_bytes(b"\xff\xfe")
    assert "cannot be read" in fails(capsys, command, "--page", str(tmp_path / "page.md"))


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_may_not_be_written_to(capsys, no_model, ordinary_user, mode):
    with tempfile.TemporaryDirectory() as folder:  # the test's own folder is not open to others
        os.chmod(folder, mode)
        for place in (Path(folder), Path(folder) / "out"):
            assert "cannot be" in fails(capsys, *_arguments("erase", place))
        os.chmod(folder, 0o700)
        (Path(folder) / "before.png").touch(0o400)
        assert "is there and cannot be written to" in fails(capsys, *_arguments("erase", Path(folder)))


def test_places_are_looked_at_and_left_alone(tmp_path):
    path = tmp_path / "there.txt"
    path.write_text("old", encoding="utf-8")
    check_file("--out", path)
    check_folder("--out", tmp_path / "a" / "b", ["c.png"])
    check_file("--out", tmp_path / ("n" * 240))
    with pytest.raises(OptionError, match="too long"):  # where it lies while it is written its name is longer
        check_file("--out", tmp_path / ("n" * 250))
    assert [found.name for found in tmp_path.iterdir()] == ["there.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path, link = tmp_path / "page.md", tmp_path / "link.md"
    path.write_text("old", encoding="utf-8")
    link.symlink_to(path)

    def full(self, data):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write_file(path, b"new")
    assert path.read_text(encoding="utf-8") == "old"
    write_file(link, b"new")
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "new"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["link.md", "page.md"]


# -- the command line's edge ------------------------------------------------


def _raising(error: BaseException):
    def run(options):
        raise error

    return run


@pytest.mark.parametrize("arguments", [["--debug", "erase"], ["erase", "--debug"], ["erase"]])
def test_foreign_errors_are_one_line_with_the_traceback_on_demand(tmp_path, capsys, monkeypatch, arguments):
    error = ZeroDivisionError("first line\nsecond " + "line " * 1000)
    monkeypatch.setattr(lib_gie.cli.erase, "run", _raising(error))
    assert main([*arguments, "a cat", "--erase", "knife", "--out", str(tmp_path)]) == 2
    *trace, line = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m lib_gie erase: error: ZeroDivisionError: first line second line")
    assert len(line) < 500
    assert bool(trace) == ("--debug" in arguments)
    assert not trace or trace[0].startswith("Traceback")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_debug(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--debug" in capsys.readouterr().out


def test_an_interruption_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lib_gie.cli.erase, "run", _raising(KeyboardInterrupt()))
    assert main(["erase", "a cat", "--erase", "knife", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "python -m lib_gie erase: interrupted\n"


def test_bytes_that_are_no_text(tmp_path, capsys, no_model):
    assert "'caf\\udce9' is no text" in fails(capsys, "erase", "caf\udce9", "--erase", "knife", "--out", str(tmp_path))


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lib_gie", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_terminal_cannot_show(tmp_path, encoding, more):
    save_adapter(
        Adapter(AdapterInfo("sd1", 16, ("Зинаида Серебрякова", "Čapek"), (-1.0, 0.0))), tmp_path / "a.safetensors"
    )
    done = _run("adapters", "--folder", str(tmp_path), *more, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    if more:
        assert json.loads(text)[0]["concepts"] == ["Зинаида Серебрякова", "Čapek"]
    else:
        assert "\\u0417" in text
    failed = _run("erase", "a cat by Čapek", "--erase", "Čapek", "--out", str(tmp_path), PYTHONIOENCODING=encoding)
    assert failed.returncode == 2
    assert failed.stderr.count(b"\n") == 1
    assert b"\\u010d" in failed.stderr.lower()


def test_erase_with_a_name_that_the_terminal_cannot_show(tmp_path):
    arguments = [
        "erase",
        "a cat by Čapek",
        "--erase",
        "knife",
        "--steps",
        "1",
        "--json",
        "--out",
        str(tmp_path / "Čapek"),
    ]
    done = _run(*arguments, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompt"] == "a cat by Čapek"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["adapters"], ["adapters", "--help"], ["--version"]])
def test_a_reader_that_goes_away_is_no_error(arguments, unbuffered):
    command = [sys.executable, "-m", "lib_gie", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_another_pipe_that_breaks_is_an_error(tmp_path, capsys, monkeypatch):
    """That of a process of the command's own, for example: the work is not done then."""
    monkeypatch.setattr(lib_gie.cli.erase, "run", _raising(BrokenPipeError(32, "Broken pipe")))
    assert "BrokenPipeError" in fails(capsys, "erase", "a cat", "--erase", "knife", "--out", str(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason=not_run.FULL_DEVICE)
def test_output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lib_gie", "adapters"], stdout=full, stderr=subprocess.PIPE, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason=not_run.UNIX_SHELL)
@pytest.mark.parametrize(("closed", "stream"), [("2>&-", "stdout"), (">&-", "stderr"), ("2>/dev/full", "stdout")])
def test_an_error_goes_to_standard_error_or_nowhere(tmp_path, closed, stream):
    """print sends to standard output what a closed standard error cannot take, among the JSON of a command."""
    script = f'"{sys.executable}" -m lib_gie adapters --folder "{tmp_path / "gone"}" {closed}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == (1 if stream == "stderr" else 0)


def test_a_library_that_is_missing_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    missing = ModuleNotFoundError("No module named 'diffusers.models'", name="diffusers.models")
    monkeypatch.setattr(lib_gie.cli.erase, "run", _raising(missing))
    line = fails(capsys, "erase", "a cat", "--erase", "knife", "--out", str(tmp_path))
    assert "this needs the Python library diffusers, which is not installed; install it in a clone" in line


def test_usage_errors_do_not_quote_without_end(capsys):
    line = fails(capsys, "erase", "a cat", "--erase", "knife", "--out", "x", "--seed", "9" * 100_000)
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo", "--seed", "-1"], "--seed is -1; it must be from 0"),
        (["demo", "--seed", "9" * 30], "--seed is 999"),
        (["demo", "--scale", "5"], "from -20 to 0"),
        (["demo", "--prompt", " ", "--erase", "knife"], "--prompt is empty"),
        (["erase", "a cat", "--erase", "knife", "--adapter", ""], "the adapter's name is empty"),
        (["train", "--concept", "knife", "--cfg", "nan"], "--cfg is nan; it must be from 0 to 100"),
        (["train", "--concept", "knife", "--margin", "nan"], "--margin is nan"),
        (["quality", "--cfg", "nan"], "--cfg is nan"),
        (["judge", "--judge", ""], "there is no judge ''"),
        (["adapters", "--folder", "gone"], "there is no such folder"),
        (["adapters", "--page", "gone.md"], "there is no such file"),
    ],
)
def test_values_that_cannot_be_used_do_not_wait_for_the_model(tmp_path, capsys, monkeypatch, no_model, arguments, says):
    monkeypatch.chdir(tmp_path)
    out = {"demo": ["--out", "out"], "erase": ["--out", "out"], "train": ["--out", "a.safetensors"]}
    assert says in fails(capsys, *arguments, *out.get(arguments[0], ()))
    assert not list(tmp_path.iterdir())


# -- training ------------------------------------------------


def test_prompts_and_judges_are_looked_at_before_the_model(tmp_path, capsys, no_model):
    train = ["train", "--concept", "knife", "--out", str(tmp_path / "a.safetensors"), "--prompts"]
    prompts = tmp_path / "prompts.txt"
    for text, says in (("[unrelated]\na cat", "all unrelated"), ("a\n[unrelated]\na", "under [explicit] as well")):
        prompts.write_text(text, encoding="utf-8")
        assert says in fails(capsys, *train, str(prompts))
    prompts.write_text("a {concept}\n[unrelated]\na cat", encoding="utf-8")
    train[2] = "zebra"
    assert "does not know the word zebra of the concept; name another thing" in fails(capsys, *train, str(prompts))
    assert "does not know the word zebra" in fails(capsys, *train[:-1])
    train[2] = "knife"
    assert "no judge 'oracle'" in fails(capsys, *train, str(prompts), "--judge", "oracle")
    assert "no judge 'oracle'" in fails(capsys, "judge", "--judge", "oracle")


@pytest.mark.parametrize(
    ("concept", "name", "said"),
    [
        ("watercolour", "demo-object", "the list demo-object is not for 'watercolour', a style of the demo model; take "
                                       "--prompts demo-style"),
        ("watercolour", "object", "a style of the demo model"), ("moon", "demo-style", "take --prompts demo-object"),
        ("Moon", "demo-object", ""), ("neon sign", "demo-style", ""), ("moon", "violence", ""),
    ],
)  # fmt: skip
def test_a_starter_list_that_is_for_others_is_warned_of(concept, name, said, tmp_path, capsys, no_model):
    assert main(["train", "--concept", concept, "--prompts", name, "--out", str(tmp_path / "a.safetensors")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: the list")]
    assert [said in line for line in lines] == [True] * bool(said)


def test_too_few_prompts_are_noticed_before_the_model(tmp_path, capsys, no_model):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {concept}\n[unrelated]\na house", encoding="utf-8")  # both would be kept for validation
    train = ["train", "--concept", "knife", "--out", str(tmp_path / "a.safetensors"), "--prompts", str(prompts)]
    assert main(train) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "2 prompts are too few to keep some for validation; give at least a dozen different ones" in last


def test_prompts_in_the_webuis_syntax_are_said_to_be_read_as_letters(tmp_path, capsys, no_model):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {concept} <lora:style:1>\na {concept} AND a cat\na {concept}", encoding="utf-8")
    out = str(tmp_path / "a.safetensors")
    assert main(["train", "--concept", "knife", "--prompts", str(prompts), "--out", out]) == 2  # no model here
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("warning: no prompt is unrelated")
    assert lines[1].startswith("warning: There are few prompts with 'knife': 3. Give 12 or more")
    assert lines[2].startswith("warning: 2 prompts have the WebUI's syntax, such as '<lora:style:1>'")


def test_an_adapter_of_another_family_does_not_wait_for_the_model(tmp_path, capsys, no_model):
    save_adapter(Adapter(AdapterInfo("sd1", 16, ("knife",), (-1.0, 0.0))), tmp_path / "a.safetensors")
    arguments = ["erase", "a cat", "--erase", "knife", "--out", str(tmp_path / "out"), "--adapter"]
    assert "trained on sd1, and this model is gie-demo" in fails(capsys, *arguments, str(tmp_path / "a.safetensors"))


def test_another_checkpoint_of_the_same_name_is_another_model(tmp_path):
    """Its labels are not taken for the other one's."""
    for name, data in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(data)
    files = [tmp_path / name / "model.safetensors" for name in "abc"]
    assert checkpoint_digest(files[0]) == checkpoint_digest(files[2]) != checkpoint_digest(files[1])
    assert checkpoint_digest(tmp_path / "a") == checkpoint_digest(files[0])
