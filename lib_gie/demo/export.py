"""The demo model as an SD 1.x checkpoint: LatentDiffusion key names, half precision, a .yaml beside it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import diffusion, text, vae

TEXT_ENCODER_VARIABLE = "GIE_DEMO_TEXT_ENCODER"
"""Environment variable in the .yaml that preload.py sets to the text encoder's folder, wherever it is installed."""

_UNET_RULES = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^mid_block\.resnets\.0\.", "middle_block.0."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
    (r"^mid_block\.resnets\.1\.", "middle_block.2."),
)
_RESNET_RULES = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)
_VAE_RULES = (
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
    (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)\.", r"down.\1.block.\2."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"conv_norm_out\.", "norm_out."),
    (r"conv_shortcut\.", "nin_shortcut."),
)
_OFFSET = -32.0  # a mean of -0.25 over 128 channels
_LAYERS_PER_LEVEL = 3  # two residual blocks and a resampler on the way down, three blocks on the way up


def _apply(rules, key: str) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _unet_block(match: re.Match) -> str:
    side, block, kind, index = match[1], int(match[2]), match[3], int(match[4])
    if side == "down":
        place = _LAYERS_PER_LEVEL * block + (3 if kind == "downsamplers" else index + 1)
        return f"input_blocks.{place}." + {"resnets": "0.", "attentions": "1.", "downsamplers": "0."}[kind]
    if kind == "upsamplers":
        return f"output_blocks.{_LAYERS_PER_LEVEL * block + 2}." + ("1." if block == 0 else "2.")
    return f"output_blocks.{_LAYERS_PER_LEVEL * block + index}." + {"resnets": "0.", "attentions": "1."}[kind]


def unet_key(key: str) -> str:
    """Return the LatentDiffusion name of a diffusers UNet parameter, without "model.diffusion_model."."""
    if "resnets" in key:
        key = _apply(_RESNET_RULES, key)
    key = re.sub(r"downsamplers\.0\.conv\.", "downsamplers.0.op.", key)
    key = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.", _unet_block, _apply(_UNET_RULES, key))
    return key


def vae_key(key: str) -> str:
    """Return the LatentDiffusion name of a diffusers autoencoder parameter, without "first_stage_model."."""
    key = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)\.", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}.", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{3 - int(m[1])}.upsample.", key)
    return _apply(_VAE_RULES, key)


def _vae_tensor(key: str, value: torch.Tensor) -> torch.Tensor:
    """Turn a linear layer's weight into that of the 1x1 convolution which LatentDiffusion's autoencoder has there."""
    is_projection = "mid.attn_1." in key and "norm" not in key and key.endswith("weight")
    return value[:, :, None, None] if is_projection and value.ndim == 2 else value


def _set_offset(model: diffusion.TextToLatents) -> None:
    """Give the text states a mean far from zero through the one channel that no layer reads (see OFFSET_CHANNEL)."""
    channel = diffusion.OFFSET_CHANNEL
    norm = next(module for name, module in model.text.named_modules() if name.endswith("final_layer_norm"))
    norm.weight[channel] = 0
    norm.bias[channel] = _OFFSET
    for name, value in model.unet.named_parameters():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            value[:, channel] = 0


def ldm_state_dict(model: diffusion.TextToLatents, autoencoder: AutoencoderKL) -> dict[str, torch.Tensor]:
    """Return all parameters under their SD 1.x names, in half precision, with the whole vocabulary."""
    tensors = {f"model.diffusion_model.{unet_key(key)}": value for key, value in model.unet.state_dict().items()}
    for key, value in autoencoder.state_dict().items():
        name = vae_key(key)
        tensors[f"first_stage_model.{name}"] = _vae_tensor(name, value)
    for key, value in model.text.state_dict().items():
        name = key.removeprefix("text_model.")
        if name.endswith("token_embedding.weight"):
            value = model.vocabulary.expand(value)
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = value
    return {
        key: (value.half() if value.dtype == torch.float32 else value).contiguous()
        for key, value in tensors.items()
        if not key.endswith("position_ids")
    }


def ldm_config(text_encoder: str, size: int = 64) -> str:
    """Return the checkpoint's .yaml.

    ``text_encoder``: the folder of its text encoder's configuration and tokenizer. ``size``: pixels per side.
    """
    multipliers = [channels // diffusion.CHANNELS[0] for channels in diffusion.CHANNELS]
    vae_multipliers = [channels // vae.CHANNELS[0] for channels in vae.CHANNELS]
    return f"""\
# The demo model of Growth Inhibitors: SD 1.x's architecture, narrower. See models/demo/README.md.
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: {diffusion.BETA_START}
    linear_end: {diffusion.BETA_END}
    num_timesteps_cond: 1
    log_every_t: 200
    timesteps: {diffusion.TRAIN_TIMESTEPS}
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: {size // 8}
    channels: 4
    cond_stage_trainable: false
    conditioning_key: crossattn
    scale_factor: {vae.SCALING_FACTOR}
    use_ema: false
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: {size // 8}
        in_channels: 4
        out_channels: 4
        model_channels: {diffusion.CHANNELS[0]}
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 2
        channel_mult: {multipliers}
        num_heads: {diffusion.HEADS}
        use_spatial_transformer: true
        transformer_depth: 1
        context_dim: {text.WIDTH}
        use_checkpoint: false
        legacy: false
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        monitor: val/rec_loss
        ddconfig:
          double_z: true
          z_channels: 4
          resolution: {size}
          in_channels: 3
          out_ch: 3
          ch: {vae.CHANNELS[0]}
          ch_mult: {vae_multipliers}
          num_res_blocks: 2
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: {json.dumps(text_encoder)}
"""


@torch.no_grad()
def export(
    model: diffusion.TextToLatents, autoencoder: AutoencoderKL, path: Path, metadata: dict[str, str], size: int = 64
) -> None:
    """Write ``path`` (.safetensors) and the .yaml beside it. ``size``: pixels per side of the images."""
    _set_offset(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(ldm_state_dict(model, autoencoder), path, metadata={"format": "pt", **metadata})
    path.with_suffix(".yaml").write_text(ldm_config(f"${{oc.env:{TEXT_ENCODER_VARIABLE}}}", size), encoding="utf-8")


def add_metadata(path: Path, **entries: str) -> None:
    """Add to a checkpoint's metadata in one move. Its tensors stay as they are."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    partial = path.with_suffix(".partial")
    save_file(load_file(path), partial, metadata={**metadata, **entries})
    os.replace(partial, path)


@torch.no_grad()
def restore(model: diffusion.TextToLatents, autoencoder: AutoencoderKL, path: Path) -> None:
    """Load what ``export`` wrote into untrained modules, to train on from it (rounded to half precision)."""
    tensors = {key: value.float() for key, value in load_file(path).items()}
    for key, value in model.unet.state_dict().items():
        value.copy_(tensors[f"model.diffusion_model.{unet_key(key)}"])
    for key, value in autoencoder.state_dict().items():
        value.copy_(tensors[f"first_stage_model.{vae_key(key)}"].reshape(value.shape))
    for key, value in model.text.state_dict().items():
        name = key.removeprefix("text_model.")
        if name.endswith("position_ids"):
            continue
        found = tensors[f"cond_stage_model.transformer.text_model.{name}"]
        if name.endswith("token_embedding.weight"):
            found = model.vocabulary.reduce(found)
            found = torch.where(found.abs().amax(1, keepdim=True) > 0, found, value)  # words that are new to it
        value.copy_(found)
