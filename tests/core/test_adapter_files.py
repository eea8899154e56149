"""Adapter files can hold anything and be anything: each is refused by itself, soon, and takes no other along."""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
import time
from pathlib import Path

import not_run
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lib_gie.core.scales import files
from lib_gie.core.scales.adapter import (
    Adapter,
    AdapterInfo,
    adapter_in,
    header_in,
    load_adapter,
    read_file,
    save_adapter,
)
from lib_gie.errors import AdapterError, GieError
from lib_gie.hosts.library import adapter_for, find_adapter, list_adapters, listed_names

INFO = AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))
TENSORS = {key: value.detach().clone() for key, value in Adapter(INFO).state_dict().items()}
METADATA = {
    "gie_format": "1", "base": "sd1", "created_by": "x", "inputs": "16", "concepts": '["knife"]',
    "label_range": "[-5, 0]", "reading": '{"per_head": false, "noise": null}', "training": "{}", "validation": "{}",
}  # fmt: skip
CONTENT = save(TENSORS, METADATA)
SECONDS = 2.0  # that one file may take


def content(**metadata: str) -> bytes:
    return save(TENSORS, {**METADATA, **metadata})


def with_header(header: bytes, length: int | None = None) -> bytes:
    (old,) = struct.unpack("<Q", CONTENT[:8])
    return struct.pack("<Q", len(header) if length is None else length) + header + CONTENT[8 + old :]


def test_the_file_itself_is_one():
    assert adapter_in(CONTENT, "x").info.concepts == ("knife",)
    assert header_in(CONTENT, "x") == adapter_in(CONTENT, "x").info


BAD_METADATA = {
    "no number": {"inputs": "Infinity"},
    "not a number": {"inputs": "NaN"},
    "huge number": {"inputs": "1e999"},
    "long number": {"inputs": "1" * 5000},
    "number of 18 digits": {"inputs": "9" * 18},
    "fraction": {"inputs": "16.5"},
    "true": {"inputs": "true"},
    "text": {"inputs": '"16"'},
    "list": {"inputs": "[16]"},
    "deep inputs": {"inputs": "[" * 100_000},
    "deep figures": {"training": '{"a": ' + "[" * 500 + "]" * 500 + "}"},
    "very deep figures": {"validation": "[" * 100_000 + "]" * 100_000},
    "concepts that are a text": {"concepts": '"knife"'},
    "concepts that are numbers": {"concepts": "[1]"},
    "a blank concept": {"concepts": '["knife", " "]'},
    "concepts that are a table": {"concepts": '{"knife": 1}'},
    "half a character": {"concepts": '["\\ud800"]'},
    "half a character in a figure": {"training": '{"\\udfff": 1}'},
    "an endless range": {"label_range": "[-Infinity, 0]"},
    "a lift that weakens": {"lift": "[0.5, -1]"},
    "a lift beyond all measure": {"lift": "[1e9, -1]"},
    "a lift of no number": {"lift": "[NaN, -1]"},
    "a lift beyond the range": {"lift": "[2, -6]"},
    "a lift above 0": {"lift": "[2, 1]"},
    "a lift of texts": {"lift": '["2", "-1"]'},
    "a range of no numbers": {"label_range": "[NaN, NaN]"},
    "a range of texts": {"label_range": '["-1", "0"]'},
    "a range of truth": {"label_range": "[false, false]"},
    "a huge range": {"label_range": f"[-1{'0' * 400}, 0]"},
    "three ends": {"label_range": "[-3, -2, -1]"},
    "reading is a list": {"reading": "[true, null]"},
    "noise is true": {"reading": '{"per_head": true, "noise": true}'},
    "the same key twice": {"reading": '{"per_head": true, "per_head": false, "noise": null}'},
    "figures are a list": {"validation": "[1, 2]"},
    "figures are null": {"validation": "null"},
    "no JSON": {"training": "{'a': 1}"},
}


@pytest.mark.parametrize("metadata", BAD_METADATA.values(), ids=BAD_METADATA)
def test_bad_metadata(metadata):
    started = time.monotonic()
    for read in (adapter_in, header_in):
        with pytest.raises(AdapterError) as failure:
            read(content(**metadata), "x")
        assert len(str(failure.value)) < 400
    assert time.monotonic() - started < SECONDS


HEADER = json.dumps({"__metadata__": METADATA, "out.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
BAD_CONTENT = {
    "a length that lies": with_header(HEADER.encode(), 2**63),
    "a length of more than the file": with_header(HEADER.encode(), len(CONTENT)),
    "a short length": with_header(HEADER.encode(), 20),
    "no UTF-8": with_header(HEADER.replace("knife", "kn\xff").encode("latin-1")),
    "metadata that is a list": with_header(b'{"__metadata__": []}'),
    "metadata with numbers": with_header(b'{"__metadata__": {"gie_format": 1}}'),
    "deep header": with_header(b'{"__metadata__": ' + b"[" * 100_000),
    "a header of a megabyte": with_header(b'{"a": [' + b"[]," * 400_000 + b"[]]}"),
    "two headers of metadata": with_header(b'{"__metadata__": {}, "__metadata__": {}}'),
    "other tensors": with_header(HEADER.encode()),
    "a gap": with_header(HEADER.replace("[0, 4]", "[4, 8]").encode()),
    "huge shape": with_header(HEADER.replace("[1]", "[4611686018427387904, 8]").encode()),
    "half a file": CONTENT[:-100],
    "nine bytes": CONTENT[:9],
    "eight bytes": CONTENT[:8],
    "too much": CONTENT + b"x",
    "numbers too large for float32": save(
        {**TENSORS, "out.bias": torch.tensor([1e300], dtype=torch.float64)}, METADATA
    ),
    "a spread that is 0 as float32": save({**TENSORS, "input_std": torch.full((16,), 1e-300).double()}, METADATA),
}


@pytest.mark.parametrize("data", BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content(data):
    started = time.monotonic()
    with pytest.raises(AdapterError) as failure:
        adapter_in(data, "x")
    assert time.monotonic() - started < SECONDS
    assert len(str(failure.value)) < 400


def test_figures_are_such_as_other_programs_read():
    """NaN is no JSON: the API's list of all adapters would fail for one's figure."""
    figures = '{"error": NaN, "most": Infinity, "large": 1e999, "long": 12345678901234567890, "good": [0.5, 3, null]}'
    found = adapter_in(content(validation=figures), "x").info.validation
    assert found == {"error": None, "most": None, "large": None, "long": None, "good": [0.5, 3, None]}
    json.dumps(found, allow_nan=False).encode()


def test_weights_that_overflow_give_no_scale():
    huge = {key: torch.full_like(value, 3e38) for key, value in TENSORS.items()}
    adapter = adapter_in(save({**huge, "input_std": TENSORS["input_std"]}, METADATA), "x")
    with pytest.raises(AdapterError, match="no finite scale"):
        adapter.scales(torch.rand(2, 16, 1), 2, 1)


# -- what a name can be ------------------------------------------------


def make_others(folder) -> list[str]:
    """Everything that can bear an adapter's name, and is none."""
    (folder / "folder.safetensors").mkdir()
    (folder / "dangling.safetensors").symlink_to(folder / "gone")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "random.safetensors").symlink_to("/dev/urandom")
    (folder / "terminal.safetensors").symlink_to("/dev/tty")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "link-to-pipe.safetensors").symlink_to(folder / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s.safetensors"))
    with (folder / "sparse.safetensors").open("wb") as file:
        file.truncate(2**40)
    (folder / "process.safetensors").symlink_to("/proc/self/mem")
    (folder / "deep.safetensors").write_bytes(content(inputs="[" * 100_000))
    (folder / "endless.safetensors").write_bytes(content(inputs="Infinity"))
    return [path.stem for path in folder.iterdir()]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason=not_run.PIPES)
def test_no_other_file_takes_the_good_ones_along(tmp_path):
    others = make_others(tmp_path)
    (tmp_path / b"\xff.safetensors".decode(errors="surrogateescape")).write_bytes(CONTENT)
    save_adapter(Adapter(INFO), tmp_path / "good.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "good.safetensors")
    started = time.monotonic()
    usable, broken = list_adapters([tmp_path])
    assert [found.name for found in usable] == ["good", "link"] == listed_names([tmp_path])
    assert sorted(broken) == sorted(others)
    assert broken["zero"].startswith("there is no adapter file zero.safetensors: it is a folder, a device or a pipe")
    assert adapter_for("knife", "sd1", [8] * 16, [tmp_path]).name == "good"
    for name in others:
        with pytest.raises(AdapterError):
            find_adapter(name, [tmp_path])
        with pytest.raises(AdapterError):
            read_file(tmp_path / f"{name}.safetensors") if name not in ("deep", "endless") else load_adapter(
                tmp_path / f"{name}.safetensors"
            )
    assert time.monotonic() - started < 2 * SECONDS
    json.dumps([broken, *(found.name for found in usable)]).encode()


def test_files_and_folders_that_may_not_be_read(ordinary_user):
    with tempfile.TemporaryDirectory() as made:  # the test's own folder is not open to others
        folder = Path(made)
        save_adapter(Adapter(INFO), folder / "a" / "good.safetensors")
        save_adapter(Adapter(INFO), folder / "a" / "mine.safetensors")
        (folder / "a" / "mine.safetensors").chmod(0)
        save_adapter(Adapter(INFO), folder / "b" / "other.safetensors")
        (folder / "b").chmod(0)
        try:
            assert listed_names([folder / "b", folder / "a"]) == ["good"]
        finally:
            (folder / "b").chmod(0o700)


def test_a_name_with_a_nul(tmp_path):
    with pytest.raises(AdapterError):
        load_adapter(tmp_path / "a\0b.safetensors")


def test_a_file_that_becomes_a_device_while_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(CONTENT)
    real = os.open
    monkeypatch.setattr(files.os, "open", lambda name, flags: real("/dev/zero", flags))
    with pytest.raises(AdapterError, match="a device"):
        read_file(path)


def test_nobody_reads_half_an_adapter(tmp_path, monkeypatch):
    """A new file takes the old one's place at once, or not at all."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(CONTENT)

    real = Path.write_bytes

    def break_off(self, data):
        real(self, b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="no space"):
        save_adapter(Adapter(INFO), path)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


# -- fuzzing ------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FUZZ = settings(deadline=1000 * SECONDS, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def _read(data: bytes) -> None:
    try:
        found = adapter_in(data, "x").info
    except GieError:
        return
    json.dumps([found.concepts, found.training, found.validation, found.base, found.inputs], allow_nan=False).encode()


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(METADATA)), VALUES.map(json.dumps) | st.text(max_size=50), max_size=4))
def test_any_metadata_is_read_or_refused(metadata):
    header = json.dumps({"__metadata__": {**METADATA, **metadata}, **_entries()})
    _read(with_header(header.encode("utf-8", errors="surrogatepass")))


def _entries() -> dict:
    (length,) = struct.unpack("<Q", CONTENT[:8])
    header = json.loads(CONTENT[8 : 8 + length])
    return {key: value for key, value in header.items() if key != "__metadata__"}


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_bytes_are_read_or_refused(changes):
    data = bytearray(CONTENT)
    for place, value in changes:
        data[place if place % 2 else place % 2600] = value
    _read(bytes(data))


@FUZZ
@given(st.binary(max_size=300), st.integers(0, 2**64 - 1) | st.integers(0, 400))
def test_any_header_is_read_or_refused(header, length):
    _read(struct.pack("<Q", length) + b"{" + header)
