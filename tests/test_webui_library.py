"""Installed adapters: listed by name, never opened by path."""

from __future__ import annotations

import pytest

from lib_gie.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import AdapterError
from lib_gie.webui.library import adapter_for, find_adapter, list_adapters, listed_names


def write(path, concept="knife", base="sd1", inputs=16, others=()):
    save_adapter(Adapter(AdapterInfo(base, inputs, (concept, *others), (-5.0, 0.0))), path)


def test_names_and_hashes(tmp_path):
    write(tmp_path / "a" / "knife.safetensors")
    write(tmp_path / "b" / "knife.safetensors", base="other")
    write(tmp_path / "b" / "wine.safetensors", concept="wine")
    (tmp_path / "b" / "broken.safetensors").write_bytes(b"nothing")
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "missing"]
    usable, broken = list_adapters(folders)
    assert [(found.name, found.info.base) for found in usable] == [("knife", "sd1"), ("wine", "sd1")]
    assert listed_names(folders) == ["knife", "wine"]
    assert len(usable[0].hash) == 10
    assert "no safetensors file" in broken["broken"]
    assert find_adapter("wine", folders).info.concepts == ("wine",)
    with pytest.raises(AdapterError, match="no safetensors file"):
        find_adapter("broken", folders)


@pytest.mark.parametrize("name", ["../a/knife", "a/knife", "/etc/passwd", "", "knife.safetensors", "Knife"])
def test_only_listed_names_are_opened(tmp_path, name):
    write(tmp_path / "b" / "knife.safetensors")
    write(tmp_path / "a" / "knife.safetensors")
    with pytest.raises(AdapterError, match="installed are: Automatic, Fixed scale, knife"):
        find_adapter(name, [tmp_path / "b"])


def test_a_replaced_file_is_read_again(tmp_path):
    path = tmp_path / "knife.safetensors"
    write(path)
    before = find_adapter("knife", [tmp_path])
    write(path, base="sd2-other")
    after = find_adapter("knife", [tmp_path])
    assert (before.info.base, after.info.base) == ("sd1", "sd2-other")
    assert before.hash != after.hash


def test_automatic_takes_what_fits_concept_and_model(tmp_path):
    write(tmp_path / "1.safetensors", concept="Knife", base="sd2")
    write(tmp_path / "2.safetensors", concept="Knife")
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]).name == "2"
    assert adapter_for("wine", "sd1", [8] * 16, [tmp_path]) is None
    assert adapter_for("knife", "sd1", [8] * 70, [tmp_path]) is None


def test_automatic_prefers_an_adapter_for_the_concept_alone(tmp_path):
    write(tmp_path / "1.safetensors", others=("wine", "beer"))
    write(tmp_path / "2.safetensors", others=("wine",))
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]).name == "2"
