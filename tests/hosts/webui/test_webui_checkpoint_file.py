"""The loaded weights beside those of the checkpoint's file, and the digest of both."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import not_run
import pytest
import torch
from safetensors.torch import save_file
from test_webui_glue import host  # noqa: F401
from torch import nn

NAME = "model.diffusion_model.out.2.weight"


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Conv2d(4, 4, 3)])


@pytest.fixture
def model(host, tmp_path):  # noqa: F811
    """A model whose file holds its weights in float16, as many do."""
    unet, path = UNet(), tmp_path / "some.safetensors"
    save_file({NAME: unet.out[2].weight.detach().half().contiguous()}, path)
    info = SimpleNamespace(filename=str(path), sha256="a" * 64, hash="0123", name_for_extra="some")
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=unet), sd_checkpoint_info=info)


def differs(model) -> bool:
    return importlib.import_module("lib_gie.hosts.webui.host.checkpoint_file").differs_from_file(model)


def weight_of(model) -> nn.Parameter:
    return model.model.diffusion_model.out[2].weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_another_precision_is_the_same(model, dtype):
    model.model.diffusion_model.to(dtype)
    assert not differs(model)


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason=not_run.OLDER_TORCH)
def test_what_float8_leaves_is_not(model):
    weight_of(model).data = weight_of(model).data.to(torch.float8_e4m3fn).float()
    assert differs(model)


def test_nor_what_something_has_written(model):
    weight_of(model).data += 0.01
    assert differs(model)


@pytest.mark.parametrize("name", ["none.safetensors", "some.ckpt"])
def test_where_it_cannot_be_told_nothing_is_said(model, tmp_path, name):
    weight_of(model).data += 1
    if name.endswith(".ckpt"):
        (tmp_path / name).write_bytes(b"")
    model.sd_checkpoint_info.filename = str(tmp_path / name)
    assert not differs(model)


def test_a_damaged_file_says_nothing(model, tmp_path):
    (tmp_path / "some.safetensors").write_bytes(b"nothing")
    assert not differs(model)


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason=not_run.OLDER_TORCH)
def test_weights_in_float8_have_a_digest_of_their_own(model):
    weights_of = importlib.import_module("lib_gie.hosts.webui.host.model").weights_of
    assert weights_of(model) == "a" * 16
    weight_of(model).data = weight_of(model).data.to(torch.float8_e4m3fn)
    assert weights_of(model) == "a" * 16 + "-float8"
