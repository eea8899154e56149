"""Files of calibrations: what they keep, what is refused, and that no kind is taken for the other."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from lib_gie.assets import MODELS
from lib_gie.core.call import LAST_TIMESTEP
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, load_adapter, read_file, save_adapter
from lib_gie.core.scales.calibrated import (
    CALIBRATED,
    Calibration,
    CalibrationInfo,
    Discriminant,
    calibration_header,
    calibration_in,
    is_calibration,
    load_calibration,
    save_calibration,
)
from lib_gie.core.scales.kept import fitted_header, fitted_in, load_fitted
from lib_gie.errors import AdapterError

SIZE, INPUTS = (8, 12), 2 * 4 * 8 * 12
READINGS = (Reading(noise=0, size=SIZE, predicted=True), Reading(noise=1, size=SIZE, timestep=700, predicted=True))
INFO = CalibrationInfo(
    "sd1", "0123456789", ("knife",), READINGS, INPUTS, -1.5, (0.25, 0.625),
    training={"evaluations": 822, "shows": True, "seen_gone": True}, conditions={"clip_skip": 1, "cfg": 7.5},
)  # fmt: skip
SECONDS = 2.0  # that one file may take


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(INPUTS, generator=torch.Generator().manual_seed(seed))


MADE = Calibration(INFO, Discriminant(drawn(0), drawn(1).abs() + 0.1, drawn(2)))
TENSORS = {name: value.clone() for name, value in MADE.discriminant.tensors().items()}
METADATA = INFO.to_metadata()
CONTENT = save(TENSORS, METADATA)


def content(**metadata: str) -> bytes:
    return save(TENSORS, {**METADATA, **metadata})


def with_header(header: bytes) -> bytes:
    (old,) = struct.unpack("<Q", CONTENT[:8])
    return struct.pack("<Q", len(header)) + header + CONTENT[8 + old :]


@pytest.fixture
def adapter_path(tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_adapter(Adapter(AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))), path)
    return path


# -- there and back ------------------------------------------------


def test_a_file_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "new" / "knife.safetensors"
    save_calibration(MADE, path)
    found = load_calibration(path)
    assert found.info == INFO == calibration_header(read_file(path), "x")
    inputs = torch.randn(5, INPUTS, 1)
    assert torch.equal(found.scales(inputs, 5, 2), MADE.scales(inputs, 5, 2))
    assert found.weights_digest == MADE.weights_digest
    assert [file.name for file in path.parent.iterdir()] == ["knife.safetensors"]


def test_the_same_calibration_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_calibration(MADE, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_says_that_presence_cannot_be_told(tmp_path):
    blind = Calibration(CalibrationInfo(**{**vars(INFO), "tells_presence": False}), MADE.discriminant)
    save_calibration(blind, tmp_path / "x.safetensors")
    found = load_calibration(tmp_path / "x.safetensors")
    assert not found.info.tells_presence
    assert found.scales(torch.randn(2, INPUTS, 1), 2, 1).tolist() == [[-1.5]] * 2


def test_a_digest_differs_where_scales_do():
    changed = [
        {"strength": -1.4}, {"ramp": (0.25, 0.5)}, {"weights": "other"},
        {"readings": (READINGS[0], Reading(noise=2, size=SIZE, predicted=True))},
    ]  # fmt: skip
    others = [Calibration(CalibrationInfo(**{**vars(INFO), **one}), MADE.discriminant) for one in changed]
    moved = Calibration(INFO, Discriminant(TENSORS["mean"], TENSORS["spread"], TENSORS["direction"] * 1.001))
    assert len({one.weights_digest for one in (MADE, *others, moved)}) == len(others) + 2


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"

    def fail(self, data):
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        save_calibration(MADE, path)
    assert not list(tmp_path.iterdir())


def test_who_may_read_a_file_is_what_the_user_has_set(tmp_path):
    """The library's own files are for nobody else; a WebUI often runs as another user."""
    path, usual = tmp_path / "x.safetensors", tmp_path / "usual"
    before = os.umask(0o022)
    try:
        save_calibration(MADE, path)
        usual.touch()
    finally:
        os.umask(before)
    assert path.stat().st_mode == usual.stat().st_mode


# -- kinds ------------------------------------------------


def test_kinds_are_told_apart(tmp_path, adapter_path):
    path = tmp_path / "calibration.safetensors"
    save_calibration(MADE, path)
    assert is_calibration(read_file(path), "x")
    assert not is_calibration(read_file(adapter_path), "x")
    assert isinstance(load_fitted(path), Calibration)
    assert isinstance(load_fitted(adapter_path), Adapter)
    assert fitted_header(read_file(path), "x") == INFO
    assert isinstance(fitted_header(read_file(adapter_path), "x"), AdapterInfo)
    for load_other, other in ((load_calibration, adapter_path), (load_adapter, path)):
        with pytest.raises(AdapterError, match="lacks the metadata"):
            load_other(other)


@pytest.mark.parametrize("name", [path.name for path in sorted(MODELS.glob("*.safetensors"))])
def test_shipped_adapters_of_earlier_versions_still_load(name):
    """Their readings say neither a timestep nor what is predicted."""
    found = load_fitted(MODELS / name)
    assert isinstance(found, Adapter)
    assert found.reading.timestep == LAST_TIMESTEP
    assert not found.reading.predicted


def test_an_adapter_of_the_first_version_still_loads():
    """It lacks conditions, and its reading has no size."""
    info = AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))
    old = info.to_metadata() | {"reading": '{"per_head": false, "noise": null}'}
    del old["conditions"]
    tensors = {name: value.detach() for name, value in Adapter(info).state_dict().items()}
    found = fitted_in(save(tensors, old), "x")
    assert found.info.reading == Reading()
    assert found.info.conditions == {}


def test_an_adapter_that_reads_predicted_noise_is_refused():
    """It would get another number of inputs than it has."""
    info = AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))
    reading = {"per_head": False, "noise": 3, "size": [8, 8], "predicted": True}
    tensors = {name: value.detach() for name, value in Adapter(info).state_dict().items()}
    with pytest.raises(AdapterError, match="adapters read attention"):
        fitted_in(save(tensors, info.to_metadata() | {"reading": json.dumps(reading)}), "x")


# -- what is refused ------------------------------------------------

READING = json.loads(METADATA["readings"])
BAD_METADATA = {
    "another format": {"gie_format": "2"},
    "no weights": {"weights": ""},
    "long weights": {"weights": "x" * 101},
    "no base": {"base": ""},
    "two concepts": {"concepts": '["knife", "gun"]'},
    "no concept": {"concepts": "[]"},
    "a strength of 0": {"strength": "0"},
    "a positive strength": {"strength": "1.5"},
    "an endless strength": {"strength": "-Infinity"},
    "a strength that is no number": {"strength": "NaN"},
    "a strength that is a text": {"strength": '"-1"'},
    "a strength that is true": {"strength": "true"},
    "a ramp that falls": {"ramp": "[0.5, 0.25]"},
    "a level ramp": {"ramp": "[0.5, 0.5]"},
    "an endless ramp": {"ramp": "[0.5, Infinity]"},
    "a ramp of three": {"ramp": "[0, 0.5, 1]"},
    "presence is 1": {"tells_presence": "1"},
    "presence is null": {"tells_presence": "null"},
    "other inputs": {"inputs": str(INPUTS + 1)},
    "many inputs": {"inputs": "999999999"},
    "readings are one": {"readings": json.dumps(READING[0])},
    "no readings": {"readings": "[]"},
    "many readings": {"readings": json.dumps(READING * 5)},
    "a reading of attention": {"readings": json.dumps([READING[0], {**READING[1], "predicted": False}])},
    "a reading without noise": {"readings": json.dumps([READING[0], {**READING[1], "noise": None}])},
    "a reading without size": {"readings": json.dumps([READING[0], {**READING[1], "size": None}])},
    "a reading past the last timestep": {"readings": json.dumps([READING[0], {**READING[1], "timestep": 1000}])},
    "a reading at half a timestep": {"readings": json.dumps([READING[0], {**READING[1], "timestep": 0.5}])},
    "predicted is a text": {"readings": json.dumps([READING[0], {**READING[1], "predicted": "yes"}])},
    "a reading that is a number": {"readings": "[1, 2]"},
    "deep figures": {"training": '{"a": ' + "[" * 500 + "]" * 500 + "}"},
}


@pytest.mark.parametrize("metadata", BAD_METADATA.values(), ids=BAD_METADATA)
def test_bad_metadata(metadata):
    started = time.monotonic()
    for read in (calibration_in, calibration_header, fitted_in, fitted_header):
        with pytest.raises(AdapterError) as failure:
            read(content(**metadata), "x")
        assert len(str(failure.value)) < 400
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("name", sorted(set(METADATA) - {"gie_kind"}))
def test_missing_metadata(name):
    rest = {key: value for key, value in METADATA.items() if key != name}
    with pytest.raises(AdapterError):
        calibration_in(save(TENSORS, rest), "x")


BAD_TENSORS = {
    "one is missing": {"mean": TENSORS["mean"]},
    "one too many": TENSORS | {"more": torch.zeros(1)},
    "another shape": TENSORS | {"mean": torch.zeros(INPUTS - 1)},
    "two dimensions": TENSORS | {"mean": torch.zeros(1, INPUTS)},
    "whole numbers": TENSORS | {"mean": torch.zeros(INPUTS, dtype=torch.int32)},
    "not a number": TENSORS | {"direction": torch.full((INPUTS,), float("nan"))},
    "too large for float32": TENSORS | {"direction": torch.full((INPUTS,), 1e300, dtype=torch.float64)},
    "a spread of 0": TENSORS | {"spread": torch.zeros(INPUTS)},
    "a spread that is 0 as float32": TENSORS | {"spread": torch.full((INPUTS,), 1e-300, dtype=torch.float64)},
    "a negative spread": TENSORS | {"spread": -torch.ones(INPUTS)},
}


@pytest.mark.parametrize("tensors", BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensors(tensors):
    with pytest.raises(AdapterError):
        calibration_in(save(tensors, METADATA), "x")


def test_pickles_are_not_opened():
    for read in (calibration_in, is_calibration, fitted_in):
        with pytest.raises(AdapterError, match="pickle"):
            read(b"\x80\x04" + b"x" * 100, "x")


# -- fuzzing ------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FUZZ = settings(deadline=1000 * SECONDS, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def _use(data: bytes) -> None:
    """Read a file in every way. Nothing but an AdapterError may come of it, and what is read can be used."""
    try:
        found = fitted_in(data, "x")
    except AdapterError:
        return
    assert fitted_header(data, "x") == found.info
    json.dumps([found.info.concepts, found.info.training, found.info.base], allow_nan=False).encode()
    if found.kind == CALIBRATED:
        inputs = torch.zeros(2, found.info.inputs, 1)
        try:
            scales = found.scales(inputs, 2, 1)
        except AdapterError:  # numbers that overflow
            return
        assert ((scales >= found.info.strength) & (scales <= 0)).all()
        assert isinstance(found.info.warning, str)


def _entries() -> dict:
    (length,) = struct.unpack("<Q", CONTENT[:8])
    header = json.loads(CONTENT[8 : 8 + length])
    return {key: value for key, value in header.items() if key != "__metadata__"}


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(METADATA)), VALUES.map(json.dumps) | st.text(max_size=50), max_size=4))
def test_any_metadata_gives_a_calibration_or_an_error(metadata):
    header = json.dumps({"__metadata__": {**METADATA, **metadata}, **_entries()})
    _use(with_header(header.encode("utf-8", errors="surrogatepass")))


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_bytes_give_a_calibration_or_an_error(changes):
    data = bytearray(CONTENT)
    for place, value in changes:
        data[place if place % 2 else place % 2000] = value
    _use(bytes(data))


@FUZZ
@given(
    st.floats(-20, -1e-3), st.floats(-5, 0.9), st.floats(1e-3, 5), st.integers(1, 40), st.integers(1, 40),
    st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and text.isprintable()), st.booleans(),
)  # fmt: skip
def test_any_calibration_comes_back(strength, low, width, height, wide, concept, tells_presence):
    size = (height, wide)
    reading = Reading(noise=7, size=size, timestep=10, predicted=True)
    inputs = 4 * min(height, 16) * min(wide, 16)
    info = CalibrationInfo("b", "w", (concept,), (reading,), inputs, strength, (low, low + width), tells_presence)
    made = Discriminant(*(torch.full((inputs,), value) for value in (0.1, 0.2, 0.3)))
    data = save(made.tensors(), info.to_metadata())
    assert calibration_in(data, "x").info == info
    assert torch.equal(load(data)["spread"], made.spread)
