"""What prompts give adapters as inputs is kept between runs, and what does not belong to the model is not used."""

from __future__ import annotations

import pytest
import torch

from lib_gie.core.scales.files import write_file
from lib_gie.training.kept_readings import BLOCK, KeptReadings

PROMPTS = [f"a prompt {number}" for number in range(BLOCK + 10)]


class Model:
    """Reads a prompt as a number of its text, for two concepts; ``by`` is what another precision would change."""

    inputs = 3

    def __init__(self, by: float = 1.0):
        self.by, self.read_prompts = by, 0

    def __call__(self, prompts):
        self.read_prompts += len(prompts)
        numbers = torch.tensor([len(text) + sum(map(ord, text)) / 97 for text in prompts])  # [B]
        own = self.by * numbers[:, None, None].expand(-1, self.inputs, 2)  # [B, inputs, 2]
        return [own, 2 * own[:, :, :1]]


def read(folder, model, identity="a model", prompts=PROMPTS):
    return KeptReadings(2, identity, folder).read(prompts, model)


def same(found, expected) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_second_run_reads_one_prompt(tmp_path):
    model = Model()
    first = read(tmp_path, model)
    assert model.read_prompts == 1 + len(PROMPTS)
    assert [tuple(own.shape) for own in first] == [(len(PROMPTS), 3, 2), (len(PROMPTS), 3, 1)]
    again = Model()
    assert same(read(tmp_path, again), first)
    assert again.read_prompts == 1


def test_an_interrupted_run_goes_on(tmp_path):
    class Interrupted(Model):
        def __call__(self, prompts):
            if self.read_prompts > 1:
                raise KeyboardInterrupt
            return super().__call__(prompts)

    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, Interrupted())
    model = Model()
    assert same(read(tmp_path, model), Model()(PROMPTS))
    assert model.read_prompts == 1 + 10


def test_another_precision_reads_all_again(tmp_path):
    read(tmp_path, Model())
    other = Model(by=1.01)
    assert same(read(tmp_path, other), Model(by=1.01)(PROMPTS))
    assert other.read_prompts == 1 + len(PROMPTS)
    assert same(read(tmp_path, Model(by=1.01)), Model(by=1.01)(PROMPTS))  # and keeps that


def test_readings_of_two_precisions_are_never_mixed(tmp_path):
    """Also where the run that read the second was interrupted after some of the prompts."""
    read(tmp_path, Model())
    read(tmp_path, Model(by=1.5), prompts=PROMPTS[:BLOCK])
    assert same(read(tmp_path, Model(by=1.5)), Model(by=1.5)(PROMPTS))


def test_readings_of_large_models_are_kept(tmp_path):
    """SDXL at its size has some 3,300 inputs; an adapter's file may not be as large as a block of these."""

    class Large(Model):
        inputs = 3400

        def __call__(self, prompts):
            own, second = super().__call__(prompts)
            return [own.repeat(1, 1, 4), second]

    first, model = read(tmp_path, Large()), Large()
    assert same(read(tmp_path, model), first)
    assert model.read_prompts == 1


@pytest.mark.parametrize("change", [{"identity": "another model"}, {"prompts": PROMPTS[1:]}], ids=str)
def test_what_it_depends_on_is_part_of_the_name(tmp_path, change):
    read(tmp_path, Model())
    model = Model()
    read(tmp_path, model, **change)
    assert model.read_prompts == 1 + len(change.get("prompts", PROMPTS))


@pytest.mark.parametrize(
    "tensors",
    [
        {"0": torch.zeros(BLOCK, 3, 2)},
        {"0": torch.full((BLOCK, 3, 2), torch.nan), "1": torch.zeros(BLOCK, 3, 1)},
        {"0": torch.zeros(BLOCK - 1, 3, 2), "1": torch.zeros(BLOCK - 1, 3, 1)},
        {"0": torch.zeros(BLOCK, 3, 2, dtype=torch.float64), "1": torch.zeros(BLOCK, 3, 1)},
    ],
    ids=["a concept lacks", "not finite", "too few rows", "another type"],
)
def test_a_damaged_file_is_read_anew(tmp_path, tensors):
    read(tmp_path, Model(), prompts=PROMPTS[:BLOCK])
    path = max(tmp_path.glob("read-*.safetensors"), key=lambda file: file.stat().st_size)
    write_file(path, tensors, {})
    assert same(read(tmp_path, Model(), prompts=PROMPTS[:BLOCK]), Model()(PROMPTS[:BLOCK]))
    path.write_bytes(b"nothing")
    assert same(read(tmp_path, Model(), prompts=PROMPTS[:BLOCK]), Model()(PROMPTS[:BLOCK]))


def test_without_a_folder_or_room_nothing_is_kept_and_nothing_fails(tmp_path):
    assert same(read(None, Model()), Model()(PROMPTS))
    (tmp_path / "a file").write_text("x")
    assert same(read(tmp_path / "a file", Model()), Model()(PROMPTS))
