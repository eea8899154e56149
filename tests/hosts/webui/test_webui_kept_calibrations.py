"""The folder of kept calibrations: names, how one is found, and which go when there are too many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo, Discriminant, save_calibration
from lib_gie.hosts.library import calibration_name, kept_calibration, remove_oldest

SIZE, WEIGHTS = (4, 4), "16109cac00000000"
INPUTS = count_cells(SIZE, 4)


def keep(folder: Path, concept: str, name: str = "", weights: str = WEIGHTS, used: int = 0) -> Path:
    """Keep a calibration that was used at a time, in s."""
    reading = (Reading(noise=0, size=SIZE, predicted=True),)
    info = CalibrationInfo("sd1", weights, (concept,), reading, INPUTS, -2.0, (0.0, 1.0), conditions={"clip_skip": 1})
    parts = Discriminant(torch.zeros(INPUTS), torch.ones(INPUTS), torch.ones(INPUTS))
    path = folder / f"{name or calibration_name(concept, weights, 1)}.safetensors"
    save_calibration(Calibration(info, parts), path)
    if used:
        os.utime(path, (used, used))
    return path


def test_names():
    assert calibration_name("straw hat", WEIGHTS, 1) == "straw-hat-calibrated-16109cac"
    assert calibration_name("straw hat", "short-16109cac0000", 1) == "straw-hat-calibrated-16109cac"
    assert calibration_name("straw hat", f"{WEIGHTS}-float8", 1) == "straw-hat-calibrated-16109cac-float8"
    found = {calibration_name(concept, WEIGHTS, skip) for concept in ("帽子", "帽 子", "straw hat!") for skip in (1, 2)}
    assert len(found) == 6
    assert all(len(name.split("-calibrated-")[0].rpartition("-")[2]) == 12 for name in found)


def test_it_is_found_by_its_name(tmp_path):
    path = keep(tmp_path, "straw hat", used=1000)
    found = kept_calibration("straw hat", WEIGHTS, 1, tmp_path)
    assert found.path == path
    assert path.stat().st_atime > 1000
    assert path.stat().st_mtime == 1000  # it is read no second time
    assert kept_calibration("straw hat", WEIGHTS, 2, tmp_path) is None
    assert kept_calibration("straw hat", "another", 1, tmp_path) is None
    assert kept_calibration("beret", WEIGHTS, 1, tmp_path / "nowhere") is None


@pytest.mark.parametrize("change", ["another concept", "another checkpoint", "damaged"])
def test_a_file_of_its_name_that_is_something_else_is_none(tmp_path, change):
    name = calibration_name("beret", WEIGHTS, 1)
    path = keep(
        tmp_path, "straw hat" if change == "another concept" else "beret", name,
        "16109cacffffffff" if change == "another checkpoint" else WEIGHTS,
    )  # fmt: skip
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:-10])
    assert kept_calibration("beret", WEIGHTS, 1, tmp_path) is None


def test_those_that_were_used_longest_ago_go(tmp_path):
    paths = [keep(tmp_path, f"hat {number}", used=1000 + number) for number in range(5)]
    kept_calibration("hat 0", WEIGHTS, 1, tmp_path)  # used just now
    assert remove_oldest(tmp_path, 3) == [paths[1], paths[2]]
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[3], paths[4]]
    assert remove_oldest(tmp_path, 3) == []


def test_some_are_spared(tmp_path):
    paths = [keep(tmp_path, f"hat {number}", used=1000 + number) for number in range(4)]
    assert remove_oldest(tmp_path, 1, lambda info: info.concepts[0] in ("hat 0", "hat 1")) == [paths[2], paths[3]]
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    assert remove_oldest(tmp_path, 0, lambda info: True) == [broken]
