"""``python tests/webui/make_models.py FOLDER``: small random checkpoints of every layout for a WebUI's folder.

Each is a .safetensors file with its .yaml: SDXL, its refiner and SD 2.x (v-prediction) with random UNets and OpenCLIP
text encoders of the smallest size that open_clip knows; inpainting and InstructPix2Pix checkpoints of SD 1.x's layout
that are the demo checkpoint with more input channels. Autoencoder and CLIP are the demo checkpoint's in all of them.
Their images are noise: tests ask whether they are equal, and whether they differ.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from make_files import DEMO, token_vectors, write_adapter
from safetensors.torch import load_file, save_file

ARCH, OPEN_WIDTH, OPEN_LAYERS = "ViT-S-32-alt", 256, 10
CLIP_WIDTH = 128
SIZE_WIDTH = 32
"""Width of each number that SDXL's vector holds beside the pooled text: sizes and crops, or a score."""

Weights = dict[str, torch.Tensor]


class Random:
    """Seeded weights under names; matrices keep the size of what goes through them."""

    def __init__(self, seed: int):
        self.weights: Weights = {}
        self._generator = torch.Generator().manual_seed(seed)

    def matrix(self, name: str, *shape: int, gain: float = 1.0) -> None:
        fan_in = torch.Size(shape[1:]).numel()
        self.weights[name] = torch.randn(shape, generator=self._generator) * gain * fan_in**-0.5

    def layer(self, name: str, *shape: int, gain: float = 1.0) -> None:
        self.matrix(f"{name}.weight", *shape, gain=gain)
        self.weights[f"{name}.bias"] = torch.randn(shape[0], generator=self._generator) * 0.1

    def norm(self, name: str, width: int) -> None:
        self.weights[f"{name}.weight"] = 1 + torch.randn(width, generator=self._generator) * 0.1
        self.weights[f"{name}.bias"] = torch.randn(width, generator=self._generator) * 0.1


@dataclass(frozen=True)
class UNet:
    """What the .yaml says of a UNet. ``depths``: transformer blocks by level; ``vector``: width of y, 0 for none."""

    channels: int
    multipliers: tuple[int, ...]
    depths: tuple[int, ...]
    attention: tuple[int, ...]  # downsampling factors of the levels with attention
    context: int
    vector: int = 0
    blocks: int = 2


def _residual(out: Random, name: str, before: int, after: int, time: int) -> None:
    out.norm(f"{name}.in_layers.0", before)
    out.layer(f"{name}.in_layers.2", after, before, 3, 3)
    out.layer(f"{name}.emb_layers.1", after, time)
    out.norm(f"{name}.out_layers.0", after)
    out.layer(f"{name}.out_layers.3", after, after, 3, 3)
    if before != after:
        out.layer(f"{name}.skip_connection", after, before, 1, 1)


def _transformer(out: Random, name: str, width: int, depth: int, context: int) -> None:
    out.norm(f"{name}.norm", width)
    out.layer(f"{name}.proj_in", width, width)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, source in (("attn1", width), ("attn2", context)):
            out.matrix(f"{block}.{attention}.to_q.weight", width, width)
            out.matrix(f"{block}.{attention}.to_k.weight", width, source, gain=3)  # maps that are far from uniform
            out.matrix(f"{block}.{attention}.to_v.weight", width, source)
            out.layer(f"{block}.{attention}.to_out.0", width, width)
        out.layer(f"{block}.ff.net.0.proj", 8 * width, width)
        out.layer(f"{block}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            out.norm(f"{block}.{norm}", width)
    out.layer(f"{name}.proj_out", width, width)


def _unet(out: Random, unet: UNet) -> None:
    root, time = "model.diffusion_model", 4 * unet.channels
    out.layer(f"{root}.time_embed.0", time, unet.channels)
    out.layer(f"{root}.time_embed.2", time, time)
    if unet.vector:
        out.layer(f"{root}.label_emb.0.0", time, unet.vector)
        out.layer(f"{root}.label_emb.0.2", time, time)
    out.layer(f"{root}.input_blocks.0.0", unet.channels, 4, 3, 3)
    width, skips, last = unet.channels, [unet.channels], len(unet.multipliers) - 1

    def block(name: str, before: int, level: int) -> bool:
        """Residual block and, where there is one, transformer; whether there is one."""
        _residual(out, f"{name}.0", before, unet.channels * unet.multipliers[level], time)
        attends = 2**level in unet.attention
        if attends:
            after = unet.channels * unet.multipliers[level]
            _transformer(out, f"{name}.1", after, unet.depths[level], unet.context)
        return attends

    for level, multiplier in enumerate(unet.multipliers):
        for _ in range(unet.blocks):
            block(f"{root}.input_blocks.{len(skips)}", width, level)
            width = unet.channels * multiplier
            skips.append(width)
        if level < last:
            out.layer(f"{root}.input_blocks.{len(skips)}.0.op", width, width, 3, 3)
            skips.append(width)
    _residual(out, f"{root}.middle_block.0", width, width, time)
    _transformer(out, f"{root}.middle_block.1", width, unet.depths[-1], unet.context)
    _residual(out, f"{root}.middle_block.2", width, width, time)
    number = 0
    for level in range(last, -1, -1):
        for position in range(unet.blocks + 1):
            attends = block(f"{root}.output_blocks.{number}", width + skips.pop(), level)
            width = unet.channels * unet.multipliers[level]
            if level and position == unet.blocks:
                out.layer(f"{root}.output_blocks.{number}.{1 + attends}.conv", width, width, 3, 3)
            number += 1
    out.norm(f"{root}.out.0", width)
    out.layer(f"{root}.out.2", 4, width, 3, 3, gain=0.3)  # of about the latents' size: the images are not all white


def _open_clip(out: Random, name: str) -> None:
    width = OPEN_WIDTH
    out.matrix(f"{name}.positional_embedding", 77, width, gain=0.3)
    out.matrix(f"{name}.text_projection", width, width)
    out.matrix(f"{name}.token_embedding.weight", 49408, width, gain=width**0.5)
    out.weights[f"{name}.logit_scale"] = torch.tensor(1.0)
    for number in range(OPEN_LAYERS):
        block = f"{name}.transformer.resblocks.{number}"
        out.norm(f"{block}.ln_1", width)
        out.matrix(f"{block}.attn.in_proj_weight", 3 * width, width)
        out.weights[f"{block}.attn.in_proj_bias"] = torch.zeros(3 * width)
        out.layer(f"{block}.attn.out_proj", width, width)
        out.norm(f"{block}.ln_2", width)
        out.layer(f"{block}.mlp.c_fc", 4 * width, width)
        out.layer(f"{block}.mlp.c_proj", width, 4 * width)
    out.norm(f"{name}.ln_final", width)


def _demo(*prefixes: str) -> Weights:
    return {key: value for key, value in load_file(DEMO / "gie-demo.safetensors").items() if key.startswith(prefixes)}


SDXL = UNet(32, (1, 1, 2), (1, 2, 10), (2, 4), CLIP_WIDTH + OPEN_WIDTH, OPEN_WIDTH + 6 * SIZE_WIDTH)
"""With as many transformer blocks as the real one: 70 cross-attention layers."""
REFINER = UNet(32, (1, 1, 2), (4, 4, 4), (2, 4), OPEN_WIDTH, OPEN_WIDTH + 5 * SIZE_WIDTH)
SD2 = UNet(64, (1, 1, 2, 2), (1, 1, 1, 1), (1, 2, 4), OPEN_WIDTH)


def sdxl(seed: int = 1) -> Weights:
    """Text encoders CLIP and OpenCLIP, a UNet with their states as context and a vector."""
    out = Random(seed)
    _unet(out, SDXL)
    _open_clip(out, "conditioner.embedders.1.model")
    old, new = "cond_stage_model.", "conditioner.embedders.0."
    clip = {key.replace(old, new): value for key, value in _demo(old).items()}
    return {**out.weights, **clip, **_demo("first_stage_model.")}


def refiner(seed: int = 2) -> Weights:
    """OpenCLIP alone; the vector ends in an aesthetic score."""
    out = Random(seed)
    _unet(out, REFINER)
    _open_clip(out, "conditioner.embedders.0.model")
    return {**out.weights, **_demo("first_stage_model.")}


def sd2(seed: int = 3) -> Weights:
    """OpenCLIP; what the UNet says is taken for v."""
    out = Random(seed)
    _unet(out, SD2)
    _open_clip(out, "cond_stage_model.model")
    return {**out.weights, **_demo("first_stage_model.")}


def demo_with_channels(channels: int, seed: int = 4) -> Weights:
    """The demo checkpoint whose UNet takes more than the latents."""
    weights, key = _demo(""), "model.diffusion_model.input_blocks.0.0.weight"
    out = Random(seed)
    out.matrix("more", len(weights[key]), channels - 4, 3, 3, gain=0.3)
    weights[key] = torch.cat([weights[key].float(), out.weights["more"]], 1)  # [C, channels, 3, 3]
    return weights


# -- .yaml files ------------------------------------------------

_NETWORK = """\
        in_channels: 4
        out_channels: 4
        model_channels: {unet.channels}
        attention_resolutions: [{attention}]
        num_res_blocks: {unet.blocks}
        channel_mult: [{multipliers}]
        num_head_channels: 16
        use_spatial_transformer: true
        use_linear_in_transformer: true
        transformer_depth: {depths}
        context_dim: {context}
        use_checkpoint: false
        legacy: false
"""

_SGM = """\
# Written by tests/webui/make_models.py: a small random checkpoint in the layout of {name}.
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    scale_factor: 0.13025
    disable_first_stage_autocast: true
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        num_idx: 1000
        weighting_config:
          target: sgm.modules.diffusionmodules.denoiser_weighting.EpsWeighting
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.EpsScaling
        discretization_config:
          target: sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization
    network_config:
      target: sgm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        adm_in_channels: {vector}
        num_classes: sequential
        spatial_transformer_attn_type: softmax-xformers
{network}\
    conditioner_config:
      target: sgm.modules.GeneralConditioner
      params:
        emb_models:
{embedders}\
{autoencoder}"""

_CLIP = """\
          - is_trainable: false
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenCLIPEmbedder
            params:
              version: "${oc.env:GIE_DEMO_TEXT_ENCODER}"
              layer: hidden
              layer_idx: 2
"""

_OPEN_CLIP = f"""\
          - is_trainable: false
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenOpenCLIPEmbedder2
            params:
              arch: {ARCH}
              version: null
              freeze: true
              layer: penultimate
              always_return_pooled: true
              legacy: false
"""

_SIZE = f"""\
          - is_trainable: false
            input_key: {{key}}
            target: sgm.modules.encoders.modules.ConcatTimestepEmbedderND
            params:
              outdim: {SIZE_WIDTH}
"""

_SD2 = """\
# Written by tests/webui/make_models.py: a small random checkpoint in the layout of SD 2.x with v-prediction.
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085
    linear_end: 0.012
    num_timesteps_cond: 1
    log_every_t: 200
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: 8
    channels: 4
    cond_stage_trainable: false
    conditioning_key: crossattn
    scale_factor: 0.18215
    use_ema: false
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 8
{network}\
{autoencoder}\
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder
      params:
        arch: {arch}
        version: null
        freeze: true
        layer: penultimate
"""

_SIZES = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _network(unet: UNet, depths: str, context: str) -> str:
    return _NETWORK.format(
        unet=unet, depths=depths, context=context,
        attention=_list(unet.attention), multipliers=_list(unet.multipliers),
    )  # fmt: skip


def _autoencoder(target: str) -> str:
    """The demo checkpoint's, whose weights these have; ``target``: the class that reads them."""
    text = (DEMO / "gie-demo.yaml").read_text(encoding="utf-8")
    block = text[text.index("    first_stage_config:") : text.index("    cond_stage_config:")]
    return block.replace("ldm.models.autoencoder.AutoencoderKL", target)


def _sgm(name: str, unet: UNet, context: str, embedders: str) -> str:
    return _SGM.format(
        name=name, vector=unet.vector, network=_network(unet, f"[{_list(unet.depths)}]", context), embedders=embedders,
        autoencoder=_autoencoder("sgm.models.autoencoder.AutoencoderKLInferenceWrapper"),
    )  # fmt: skip


def _sizes(*keys: str) -> str:
    return "".join(_SIZE.format(key=key) for key in keys)


def _demo_yaml(channels: int, target: str, key: str, *more: str) -> str:
    """The demo checkpoint's .yaml for another model class, UNet and key of the text; ``more``: of its parameters."""
    lines = "".join(f"\n    {line}" for line in more)
    changes = {
        "target: ldm.models.diffusion.ddpm.LatentDiffusion": f"target: {target}",
        "conditioning_key: crossattn": f"conditioning_key: hybrid{lines}",
        "cond_stage_key: txt": f"cond_stage_key: {key}",
        "image_size: 8\n        in_channels: 4": f"image_size: 8\n        in_channels: {channels}",
    }
    text = (DEMO / "gie-demo.yaml").read_text(encoding="utf-8")
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"gie-demo.yaml has {old!r} {text.count(old)} times; it must be there once")
        text = text.replace(old, new)
    return text


def checkpoints() -> dict[str, tuple[Weights, str]]:
    """Weights and .yaml by name."""
    return {
        "tiny-sdxl": (sdxl(), _sgm("SDXL", SDXL, str(SDXL.context), _CLIP + _OPEN_CLIP + _sizes(*_SIZES))),
        "tiny-sdxl-refiner": (
            refiner(),
            _sgm("SDXL's refiner", REFINER, f"[{_list((REFINER.context,) * 3)}]",
                 _OPEN_CLIP + _sizes(*_SIZES[:2], "aesthetic_score")),
        ),
        "tiny-sd2": (
            sd2(),
            _SD2.format(arch=ARCH, network=_network(SD2, "1", str(SD2.context)),
                        autoencoder=_autoencoder("ldm.models.autoencoder.AutoencoderKL")),
        ),
        "tiny-inpainting": (
            demo_with_channels(9),
            _demo_yaml(9, "ldm.models.diffusion.ddpm.LatentInpaintDiffusion", "txt", "finetune_keys: null"),
        ),
        "tiny-ip2p": (
            demo_with_channels(8), _demo_yaml(8, "modules.models.diffusion.ddpm_edit.LatentDiffusion", "edit"),
        ),
    }  # fmt: skip


def sd3() -> Weights:
    """What the WebUI reads SD3's sizes from, and no more: it makes the text encoders at full size (3.3 GB) itself.

    What is not in here keeps the values of its memory, so this is for seeing that SD3 is refused.
    """
    unet, text = "model.diffusion_model", "text_encoders.{}.transformer.text_model.embeddings.position_embedding.weight"
    shapes = {
        f"{unet}.x_embedder.proj.weight": (64, 16, 2, 2),
        f"{unet}.pos_embed": (1, 64, 64),
        f"{unet}.y_embedder.mlp.0.weight": (64, 2048),
        f"{unet}.context_embedder.weight": (64, 4096),
        text.format("clip_l"): (77, 768),
        text.format("clip_g"): (77, 1280),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def _save(weights: Weights, path: Path) -> None:
    save_file({key: value.half().contiguous() for key, value in weights.items()}, path)


def _previews(folder: Path) -> None:
    """The WebUI downloads what makes SDXL's live previews; SD 1.x's, which it comes with, is of the same shape."""
    source, target = folder / "model.pt", folder / "vaeapprox-sdxl.pt"
    if source.exists() and not target.exists():
        shutil.copy(source, target)


def _inversions(folder: Path, sdxl: Weights, sd2: Weights) -> None:
    """Textual inversions that are a word, as ``make_files.py`` makes one for the demo checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    open_clip = token_vectors("syringe", sd2["cond_stage_model.model.token_embedding.weight"].half())  # as it is saved
    save_file({"emb_params": open_clip}, folder / "giesyringe-sd2.safetensors")
    both = {
        "clip_l": "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
        "clip_g": "conditioner.embedders.1.model.token_embedding.weight",
    }
    vectors = {name: token_vectors("syringe", sdxl[key].half()) for name, key in both.items()}
    save_file(vectors, folder / "giesyringe-sdxl.safetensors")


def main(folder: Path) -> None:
    """Write all."""
    for name, unet, layers in (("tiny-sdxl", SDXL, 70), ("tiny-sdxl-refiner", REFINER, 44), ("tiny-sd2", SD2, 16)):
        write_adapter(folder / "models" / "growth-inhibitors" / f"{name}.safetensors", f"width-{unet.context}", layers)
    _previews(folder / "models" / "VAE-approx")
    made = checkpoints()
    _inversions(folder / "embeddings", made["tiny-sdxl"][0], made["tiny-sd2"][0])
    folder = folder / "models" / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (weights, text) in made.items():
        _save(weights, folder / f"{name}.safetensors")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    _save(sd3(), folder / "tiny-sd3.safetensors")  # known by its weights, without a .yaml


if __name__ == "__main__":
    main(Path(sys.argv[1]))
