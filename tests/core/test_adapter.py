"""The adapter and its files: what is predicted, what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_gie.cli import main
from lib_gie.core.layers import UNKNOWN
from lib_gie.core.recorder import PAPER, Reading
from lib_gie.core.scales.adapter import (
    MAX_FILE_BYTES,
    Adapter,
    AdapterInfo,
    convert_authors,
    load_adapter,
    save_adapter,
)
from lib_gie.errors import AdapterError


def make(inputs=16, low=-8.0, high=-0.5, concepts=("knife",), reading=PAPER) -> Adapter:
    torch.manual_seed(0)
    info = AdapterInfo("sd1", inputs, concepts, (low, high), reading, {"images": 60}, {"mse": 0.4})
    adapter = Adapter(info)
    adapter.set_normalisation(torch.rand(50, inputs))
    return adapter.eval()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "knife.safetensors"
    save_adapter(make(), path)
    return path


def parts(path):
    """Tensors and metadata of a file, to be spoilt and written again."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return load_file(path), dict(opened.metadata())


def test_weak_answers_are_lifted_up_to_a_scale(tmp_path):
    """Between 0 and there; the digest tells both apart, and an adapter without a lift has the one that it had."""
    plain = make(low=-2.0, high=0.0)
    lifted = make(low=-2.0, high=0.0)
    lifted.info = dataclasses.replace(lifted.info, lift=(2.0, -0.8))
    answers = torch.tensor([0.5, 0.0, -0.1, -0.4, -0.6, -0.8, -1.5, -9.0])
    assert plain.bounded(answers).tolist() == pytest.approx([0.0, 0.0, -0.1, -0.4, -0.6, -0.8, -1.5, -2.0])
    assert lifted.bounded(answers).tolist() == pytest.approx([0.0, 0.0, -0.2, -0.8, -0.8, -0.8, -1.5, -2.0])
    assert lifted.weights_digest != plain.weights_digest
    save_adapter(lifted, tmp_path / "lifted.safetensors")
    found = load_adapter(tmp_path / "lifted.safetensors")
    assert (found.info.lift, found.weights_digest) == ((2.0, -0.8), lifted.weights_digest)


@pytest.mark.parametrize(("inputs", "reading"), [(1, PAPER), (16, PAPER), (128, Reading(True, 7))])
def test_survives_writing_and_reading(tmp_path, inputs, reading):
    adapter, path = make(inputs, concepts=("van gogh", "naïve, art"), reading=reading), tmp_path / "a.safetensors"
    save_adapter(adapter, path)
    read = load_adapter(path)
    means = torch.rand(3, inputs, 2)
    assert read.info == adapter.info
    assert torch.equal(read.scales(means, 3, 2), adapter.scales(means, 3, 2))


def test_is_the_papers_mlp_over_normalised_inputs():
    adapter, means = make(), torch.rand(4, 16, 3)
    x = ((means.transpose(1, 2) - adapter.input_mean) / adapter.input_std).reshape(-1, 16)
    for layer in (adapter.hidden[0], adapter.hidden[1]):
        x = (x @ layer.weight.T + layer.bias).clamp(min=0)
    expected = (x @ adapter.out.weight.T + adapter.out.bias).reshape(4, 3)
    assert [tuple(p.weight.shape) for p in (*adapter.hidden, adapter.out)] == [(64, 16), (32, 64), (1, 32)]
    torch.testing.assert_close(adapter.scales(means, 4, 3), expected.clamp(-8, -0.5))


@pytest.mark.parametrize(("bias", "expected"), [(100.0, -0.5), (-100.0, -8.0)])
def test_scales_stay_within_the_labels_and_never_above_zero(bias, expected):
    adapter = make()
    adapter.out.bias.data.fill_(bias)
    assert torch.equal(adapter.scales(torch.rand(2, 16, 1), 2, 1), torch.full((2, 1), expected))
    for low, high in ((-1, 0.5), (-1, -2), (float("nan"), 0), (float("-inf"), 0)):
        with pytest.raises(AdapterError, match="label range"):
            make(low=low, high=high)


def test_constant_inputs_do_not_blow_up():
    adapter = make()
    adapter.set_normalisation(torch.ones(5, 16))
    assert torch.isfinite(adapter.scales(torch.rand(1, 16, 1), 1, 1)).all()


def test_names_both_architectures_when_it_does_not_fit():
    with pytest.raises(
        AdapterError, match=r"sd1 with 16 inputs, and this model gives 70 \(70 cross-attention layers\)"
    ):
        make().check_model(UNKNOWN, [8] * 70)


def test_refuses_a_model_of_another_family_with_as_many_inputs():
    with pytest.raises(AdapterError, match="was trained on sd1, and this model is gie-demo"):
        make().check_model("gie-demo", [8] * 16)
    make().check_model("sd1", [8] * 16)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_refuses_pickles_without_running_them(tmp_path):
    for name, save in (
        ("a.pt", lambda p: torch.save(Bomb(), p)),
        ("b.pkl", lambda p: p.write_bytes(pickle.dumps(Bomb(), protocol=2))),  # of a later one torch.load warns
    ):
        save(tmp_path / name)
        with pytest.raises(AdapterError, match="pickle"):
            load_adapter(tmp_path / name)
        with pytest.raises(AdapterError):
            convert_authors(tmp_path / name, "sd1", ["x"], (-20, 0))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_refuses_pickles_of_every_protocol(tmp_path, protocol):
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    with pytest.raises(AdapterError, match="pickle"):
        load_adapter(tmp_path / "b.pkl")


def spoil(path, tensors=None, metadata=None):
    old_tensors, old_metadata = parts(path)
    merged = {key: value for key, value in (old_tensors | (tensors or {})).items() if value is not None}
    texts = {key: value for key, value in (old_metadata | (metadata or {})).items() if value is not None}
    save_file(merged, path, metadata=texts)


@pytest.mark.parametrize("length", [int.from_bytes(b"\x80\x20", "little"), int.from_bytes(b"PK", "little")])
def test_a_length_that_looks_like_a_pickle_is_none(file, length):
    """A safetensors file begins with the length of its header, which can be any number."""
    content = file.read_bytes()
    (old,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + old].ljust(length)  # a header may end with spaces
    file.write_bytes(struct.pack("<Q", length) + header + content[8 + old :])
    assert load_adapter(file).info == make().info


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({"out.bias": torch.tensor([float("nan")])}, None, "not finite"),
        ({"hidden.0.weight": torch.full((64, 16), float("inf"))}, None, "not finite"),
        ({"out.weight": torch.zeros(1, 31)}, None, "shape"),
        ({"hidden.0.weight": torch.zeros(64, 17)}, None, "shape"),
        ({"out.weight": None}, None, "expected"),
        ({"extra": torch.zeros(1)}, None, "expected"),
        ({"out.bias": torch.zeros(1, dtype=torch.int64)}, None, "finite"),
        ({"input_std": torch.zeros(16)}, None, "positive"),
        (None, {"gie_format": None}, "no metadata of growth inhibitors"),
        (None, {"gie_format": "99"}, "update"),
        (None, {"base": None}, "lacks the metadata base"),
        (None, {"concepts": None, "inputs": None}, "inputs, concepts"),
        (None, {"inputs": "70"}, "shape"),
        (None, {"inputs": "-1"}, "inputs"),
        (None, {"inputs": "100000000"}, "inputs"),
        (None, {"inputs": "null"}, "cannot be read"),
        (None, {"reading": "null"}, "cannot be read"),
        (None, {"reading": '{"per_head": 1, "noise": null}'}, "cannot be read"),
        (None, {"reading": '{"per_head": true, "noise": -1}'}, "cannot be read"),
        (None, {"reading": '{"per_head": true}'}, "cannot be read"),
        (None, {"concepts": "[]"}, "concepts"),
        (None, {"concepts": "5"}, "cannot be read"),
        (None, {"label_range": "[-1, 3]"}, "label range"),
        (None, {"label_range": "[-1]"}, "cannot be read"),
        (None, {"training": "{"}, "cannot be read"),
    ],
)
def test_refuses_spoilt_files(file, tensors, metadata, says):
    spoil(file, tensors, metadata)
    with pytest.raises(AdapterError, match=says):
        load_adapter(file)


def test_refuses_other_files(tmp_path, file):
    cases = {
        "empty.safetensors": b"",
        "text.safetensors": b"this is no adapter at all, only a text",
        "cut.safetensors": file.read_bytes()[:-40],
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AdapterError, match="safetensors"):
            load_adapter(tmp_path / name)
    with pytest.raises(AdapterError, match="there is no adapter file"):
        load_adapter(tmp_path / "missing.safetensors")
    with pytest.raises(AdapterError, match="there is no adapter file"):
        load_adapter(tmp_path)
    (tmp_path / "large.safetensors").write_bytes(b"\0" * (MAX_FILE_BYTES + 1))
    with pytest.raises(AdapterError, match="at most"):
        load_adapter(tmp_path / "large.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match="no metadata of growth inhibitors"):
        load_adapter(tmp_path / "lora.safetensors")


class AuthorsAdapter(torch.nn.Module):
    """The published class: three linear layers called fc1 to fc3."""

    def __init__(self, inputs):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (torch.nn.Linear(a, b) for a, b in ((inputs, 64), (64, 32), (32, 1)))

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


@pytest.mark.parametrize("inputs", [16, 5])
def test_converts_the_authors_files(tmp_path, inputs, capsys):
    torch.manual_seed(1)
    theirs = AuthorsAdapter(inputs)
    torch.save(theirs.state_dict(), tmp_path / "nudity.pth")
    assert main(["convert", str(tmp_path / "nudity.pth"), "--concept", "nudity", "--range", "-20", "0"]) == 0
    ours = load_adapter(tmp_path / "nudity.safetensors")
    means = torch.randn(6, inputs, 1) * 30
    expected = theirs(means[..., 0]).detach().clamp(-20, 0)
    torch.testing.assert_close(ours.scales(means, 6, 1), expected)
    assert (ours.info.base, ours.info.inputs, ours.info.concepts) == ("sd1", inputs, ("nudity",))
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [{"fc1.weight": torch.zeros(64, 16)}, [1, 2], {"a": torch.zeros(1)}, torch.zeros(3), None]
)
def test_converts_nothing_else(tmp_path, content, capsys):
    torch.save(content, tmp_path / "x.pth")
    assert main(["convert", str(tmp_path / "x.pth"), "--concept", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_metadata_is_readable_text(file):
    metadata = parts(file)[1]
    assert json.loads(metadata["concepts"]) == ["knife"]
    assert metadata["created_by"].startswith("lib_gie ")


def test_loading_while_modules_are_created_without_storage(tmp_path, monkeypatch):
    """As in the WebUI while it loads a model in another thread: it replaces both for the whole process."""
    adapter = Adapter(AdapterInfo("sd1", 16, ("knife",), (-9.0, 0.0)))
    path = tmp_path / "knife.safetensors"
    save_adapter(adapter, path)
    inner = torch.nn.Linear.__init__
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Linear, "__init__", lambda self, *a, **k: inner(self, *a, **{**k, "device": "meta"}))
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *args, **kwargs: None)
        loaded = load_adapter(path)
    means = torch.rand(3, 16)  # [samples, layers]
    assert torch.equal(loaded(means), adapter(means))
