"""``python tests/webui/make_files.py FOLDER``: the demo checkpoint and small random add-ons for a WebUI's folder.

A LoRA (with --lora-dir's default place), a textual inversion, a hypernetwork, an adapter, an autoencoder, a second
checkpoint with another .yaml (a new model object for the WebUI), two with one .yaml (weights replaced in place), and
an extension that does what other extensions do.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter  # noqa: E402

DEMO = ROOT / "models" / "demo"
WIDTH, LAYERS = 128, 16


def _random(*shape: int, seed: int, scale: float) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def _checkpoints(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".yaml"):
        shutil.copy(DEMO / f"gie-demo{suffix}", folder / f"gie-demo{suffix}")
    shutil.copy(DEMO / "gie-demo.yaml", folder / "other-demo.yaml")
    weights = load_file(DEMO / "gie-demo.safetensors")
    key = "model.diffusion_model.out.2.weight"
    weights[key] = weights[key] * 0.97
    save_file(weights, folder / "other-demo.safetensors")
    shutil.copy(DEMO / "gie-demo.yaml", folder / "gie-inplace.yaml")
    shutil.copy(DEMO / "gie-demo.safetensors", folder / "gie-inplace.safetensors")
    _pickle({"state_dict": weights}, folder / "gie-inplace.ckpt")


def _pickle(value: dict, path: Path) -> None:
    """In the older of torch's formats: the WebUI refuses files with entries that newer versions of the other add."""
    torch.save(value, path, _use_new_zipfile_serialization=False)


def _vae(path: Path) -> None:
    prefix = "first_stage_model."
    weights = load_file(DEMO / "gie-demo.safetensors")
    vae = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    vae["decoder.conv_out.bias"] = vae["decoder.conv_out.bias"] + 0.1
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(vae, path)


def _lora(path: Path) -> None:
    tensors = {}
    block = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2"
    for number, part in enumerate(("to_q", "to_k", "to_v", "to_out_0")):
        tensors[f"{block}_{part}.lora_down.weight"] = _random(4, WIDTH, seed=number, scale=0.1)
        tensors[f"{block}_{part}.lora_up.weight"] = _random(WIDTH, 4, seed=10 + number, scale=0.1)
        tensors[f"{block}_{part}.alpha"] = torch.tensor(4.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def _lora_everywhere(path: Path) -> None:
    """Random weights for all linear layers of the demo checkpoint's attention, as the WebUI names them."""
    tensors, rank = {}, 4
    weights = load_file(DEMO / "gie-demo.safetensors")
    linear = re.compile(r"transformer_blocks\.\d+\.attn\d\.to_\w+(\.0)?\.weight$")
    names = sorted(name for name in weights if linear.search(name))
    for number, name in enumerate(names):
        key = name.removeprefix("model.").removesuffix(".weight").replace(".", "_")
        rows, columns = weights[name].shape
        tensors[f"{key}.lora_down.weight"] = _random(rank, columns, seed=2 * number, scale=0.2)
        tensors[f"{key}.lora_up.weight"] = _random(rows, rank, seed=2 * number + 1, scale=0.2)
        tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    save_file(tensors, path)


def _hypernetwork(path: Path) -> None:
    def layer(seed: int) -> dict[str, torch.Tensor]:
        wide = 2 * WIDTH
        return {
            "linear.0.weight": _random(wide, WIDTH, seed=seed, scale=0.02), "linear.0.bias": torch.zeros(wide),
            "linear.1.weight": _random(WIDTH, wide, seed=seed + 1, scale=0.02), "linear.1.bias": torch.zeros(WIDTH),
        }  # fmt: skip

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {WIDTH: (layer(1), layer(3)), "step": 1, "name": "gietest", "layer_structure": [1, 2, 1]}
    _pickle({**state, "activation_func": "linear", "is_layer_norm": False, "activate_output": False}, path)


def token_vectors(word: str, weights: torch.Tensor) -> torch.Tensor:
    """The embeddings of a word's own tokens, [n, D]; ``weights`` [tokens, D]: a text encoder's."""
    ids = CLIPTokenizer.from_pretrained(DEMO / "text_encoder")(word).input_ids[1:-1]
    return weights[ids].contiguous()


def _inversion(path: Path) -> None:
    """A textual inversion that is a word: three vectors, as many as it has tokens."""
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    save_file({"emb_params": token_vectors("syringe", load_file(DEMO / "gie-demo.safetensors")[key])}, path)


def write_adapter(path: Path, base: str, inputs: int, slope: float = -9.0) -> None:
    """Its scale is ``slope`` times the average of the means, so that images differ in it."""
    adapter = Adapter(AdapterInfo(base, inputs, ("balloon",), (-9.0, 0.0)))
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
        adapter.hidden[0].weight[0] = 1 / inputs
        adapter.hidden[1].weight[0, 0] = 1
        adapter.out.weight[0, 0] = slope
    save_adapter(adapter, path)


def main(folder: Path) -> None:
    """Write everything."""
    torch.manual_seed(0)
    models = folder / "models"
    _checkpoints(models / "Stable-diffusion")
    _vae(models / "VAE" / "gietest.safetensors")
    shutil.copytree(Path(__file__).parent / "extension", folder / "extensions" / "gie-test-routes", dirs_exist_ok=True)
    _lora(models / "Lora" / "gietest.safetensors")
    _lora_everywhere(models / "Lora" / "gierandom.safetensors")
    _hypernetwork(models / "hypernetworks" / "gietest.pt")
    write_adapter(models / "growth-inhibitors" / "gietest.safetensors", "gie-demo", LAYERS)
    embeddings = folder / "embeddings"
    embeddings.mkdir(exist_ok=True)
    save_file({"emb_params": _random(2, WIDTH, seed=7, scale=0.05)}, embeddings / "gieembedding.safetensors")
    _inversion(embeddings / "giesyringe.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
