"""The examples that end each command's help: the parser takes each of them, and they name only what is there."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

import lib_gie.cli
from lib_gie.cli import COMMANDS, main
from lib_gie.cli.examples import Example
from lib_gie.cli.scales import adapter_path
from lib_gie.errors import GieError

ALL = [(name, example) for name in COMMANDS for example in importlib.import_module(f"lib_gie.cli.{name}").EXAMPLES]
NEEDED = {
    "sd15.safetensors",
    "my-demo.safetensors",
    "lamp.txt",
    "adapter.pth",
    "my-adapters",
    "../stable-diffusion-webui",
}
"""What examples name that no clone has."""
CHECKED = [(name, example) for name, example in ALL if name in ("erase", "evaluate", "bench", "train")]


def parsed(name: str, example: Example):
    return lib_gie.cli._parser(name).parse_args([name, *shlex.split(example.arguments)])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_two_to_four(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    examples = [example for command, example in ALL if command == name]
    assert 2 <= len(examples) <= 4
    for example in examples:
        assert f"  python -m lib_gie {name} {example.arguments}".rstrip() in shown.splitlines()
        assert f"      {example.does}" in shown.splitlines()


@pytest.mark.parametrize(("name", "example"), ALL)
def test_the_parser_takes_each_example(name, example):
    assert parsed(name, example).command == name


@pytest.mark.parametrize(("name", "example"), CHECKED)
def test_what_commands_check_before_the_work_holds(name, example, tmp_path, monkeypatch):
    """A method, a variant or an adapter that is gone is no matter of the parser's."""
    monkeypatch.chdir(tmp_path)
    options, module = parsed(name, example), importlib.import_module(f"lib_gie.cli.{name}")
    if name == "evaluate":
        assert module._names(options)
        assert module._kinds(options)
        assert module._concepts(options)
        assert all(adapter_path(one).is_file() for one in options.adapter or ())
    else:
        module._check(options)


@pytest.mark.parametrize(("name", "example"), ALL)
def test_an_example_says_what_it_needs(name, example):
    words = set(shlex.split(example.arguments))
    assert example.does.endswith(".")
    if words & NEEDED:
        assert "needs" in example.does or example.does.startswith("The same"), example
    paths = [word for word in words if word.endswith((".safetensors", ".pth", ".txt")) and word not in NEEDED]
    options = parsed(name, example)
    assert {Path(path) for path in paths} <= {Path(str(getattr(options, "out", "")))}, "a file that no clone has"


@pytest.mark.parametrize("gone", ["--gone", "--erase"])
def test_an_option_that_is_gone_is_seen(gone):
    with pytest.raises(SystemExit, match="2"):
        parsed("adapters", Example(gone, "Nothing."))


def test_a_method_that_is_gone_is_seen():
    options = parsed("bench", Example("--variants gone", "Nothing."))
    with pytest.raises(GieError, match="gone"):
        importlib.import_module("lib_gie.cli.bench")._check(options)
