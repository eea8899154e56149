"""Installed adapters: listed by name, never opened by path."""

from __future__ import annotations

import os

import pytest

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.fitted import GOOD_ENOUGH
from lib_gie.errors import AdapterError
from lib_gie.hosts.library import adapter_for, find_adapter, list_adapters, listed_names, taken_for


def write(path, concept="knife", base="sd1", inputs=16, others=(), validation=None):
    info = AdapterInfo(base, inputs, (concept, *others), (-5.0, 0.0), validation=validation or {})
    save_adapter(Adapter(info), path)


def test_names_and_hashes(tmp_path):
    write(tmp_path / "a" / "knife.safetensors")
    write(tmp_path / "b" / "knife.safetensors", base="other")
    write(tmp_path / "b" / "wine.safetensors", concept="wine")
    (tmp_path / "b" / "broken.safetensors").write_bytes(b"nothing")
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "missing"]
    usable, broken = list_adapters(folders)
    assert [(found.name, found.info.base) for found in usable] == [
        ("knife", "other"), ("knife (shipped)", "sd1"), ("wine", "sd1")
    ]  # fmt: skip
    assert listed_names(folders) == ["knife", "knife (shipped)", "wine"]
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


def test_automatic_leaves_out_what_its_training_found_not_good_enough(tmp_path):
    """Nobody has chosen it; the calibration or the fixed scale that it would displace does better."""
    write(tmp_path / "bad.safetensors", validation={GOOD_ENOUGH: False})
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]) is None
    assert find_adapter("bad", [tmp_path]).name == "bad"
    write(tmp_path / "bad.safetensors", validation={"better_than_constant": False})  # by an older version
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]) is None
    write(tmp_path / "good.safetensors", validation={GOOD_ENOUGH: True})
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]).name == "good"


def test_automatic_prefers_an_adapter_for_the_concept_alone(tmp_path):
    write(tmp_path / "1.safetensors", others=("wine", "beer"))
    write(tmp_path / "2.safetensors", others=("wine",))
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]).name == "2"


def test_a_shipped_adapter_does_not_hide_the_users_of_the_same_name(tmp_path):
    """Both can be chosen, and each has a name and a hash of its own for the infotext."""
    shipped, own = folders = [tmp_path / "shipped", tmp_path / "own"]
    write(shipped / "knife.safetensors")
    write(own / "knife.safetensors", others=("wine",))
    found = {name: find_adapter(name, folders) for name in listed_names(folders)}
    assert {name: one.path.parent for name, one in found.items()} == {"knife": own, "knife (shipped)": shipped}
    assert [one.name for one in found.values()] == list(found)
    assert len({one.hash for one in found.values()}) == 2
    write(own / "knife (shipped).safetensors", base="sd2")
    assert listed_names(folders) == ["knife", "knife (shipped)", "knife (shipped) (shipped)"]
    assert find_adapter("knife (shipped)", folders).info.base == "sd2"
    assert find_adapter("knife (shipped) (shipped)", folders).path.parent == shipped


def test_automatic_takes_the_users_newest(tmp_path):
    shipped, own = folders = [tmp_path / "shipped", tmp_path / "own"]
    for number, name in enumerate(("b", "c", "a")):  # c is written last
        write(own / f"{name}.safetensors")
        os.utime(own / f"{name}.safetensors", (10, 100 if name == "c" else number))
    write(shipped / "new.safetensors")  # newer, and shipped
    choose = [adapter_for("knife", "sd1", [8] * 16, folders).name]
    for name in ("c", "a", "b"):
        (own / f"{name}.safetensors").unlink()
        choose.append(adapter_for("knife", "sd1", [8] * 16, folders).name)
    assert choose == ["c", "a", "b", "new"]


def test_of_shipped_adapters_the_first_by_name(tmp_path):
    """When they were written says only when the extension was installed."""
    for number, name in enumerate(("c", "a", "b")):
        write(tmp_path / "shipped" / f"{name}.safetensors")
        os.utime(tmp_path / "shipped" / f"{name}.safetensors", (10, number))
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path / "shipped", tmp_path / "own"]).name == "a"


def test_the_list_says_for_what_automatic_takes_each(tmp_path):
    shipped, own = folders = [tmp_path / "shipped", tmp_path / "own"]
    write(shipped / "knife.safetensors", concept="Knife")
    write(shipped / "joint.safetensors", others=("wine", "beer"))
    write(shipped / "other.safetensors", base="sd2")
    usable, _ = list_adapters(folders)
    taken = {one.name: taken_for(one, usable, folders) for one in usable}
    assert taken == {"knife": ["Knife"], "joint": ["wine", "beer"], "other": ["knife"]}
    write(own / "knife.safetensors")
    usable, _ = list_adapters(folders)
    taken = {one.name: taken_for(one, usable, folders) for one in usable}
    assert taken == {"knife": ["knife"], "knife (shipped)": [], "joint": ["wine", "beer"], "other": ["knife"]}
    for one in usable:
        for concept in one.info.concepts:
            chosen = adapter_for(concept.casefold(), one.info.base, [8] * 16, folders)
            assert (chosen.path == one.path) == (concept in taken[one.name])
