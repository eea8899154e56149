"""``python -m lib_gie.demo.train``: make the demo checkpoint from nothing, in a few hours on two CPU cores.

The result depends on ``--seed`` alone on one machine. The training can be interrupted at any time and goes on when it
is called again with the same ``--state`` folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from lib_gie.assets import DEMO_CHECKPOINT

from .diffusion import TextToLatents, phases, train_diffusion
from .export import export, restore
from .loop import keep_memory, load_state, save_state, step_seed
from .splits import reserved_captions
from .text import ReducedVocabulary, load_tokenizer
from .vae import PHASES, build_vae, psnr, random_images, reconstruct, train_vae


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib_gie.demo.train", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=7500, help="of the first phase of text encoder and UNet")
    parser.add_argument("--pool", type=int, default=12288, help="drawn scenes to train on, a multiple of 64")
    parser.add_argument("--state", type=Path, default=Path("runs/demo"), help="folder of the resumable state")
    parser.add_argument("--start-from", type=Path, help="checkpoint to train on from, where --state is still empty")
    parser.add_argument("--out", type=Path, default=DEMO_CHECKPOINT)
    return parser.parse_args()


def _trained_vae(options: argparse.Namespace):
    """Return the trained autoencoder, from ``vae_final.pt`` where that is there."""
    final = options.state / "vae_final.pt"
    state = load_state(final)
    if state is None:
        vae = train_vae(options.seed, options.state)
        save_state(final, vae.state_dict())
        return vae
    vae = build_vae()
    vae.load_state_dict(state)
    return vae.eval()


def _start_from(options: argparse.Namespace) -> None:
    """Put a checkpoint's weights where the phases of the training find them as their step 0."""
    if options.start_from is None or options.state.exists():
        return
    model, vae = TextToLatents(ReducedVocabulary(load_tokenizer())), build_vae()
    restore(model, vae, options.start_from)
    save_state(options.state / "vae_final.pt", vae.state_dict())
    save_state(options.state / "diffusion.pt", {"step": 0, "module": model.state_dict()})


def _metadata(options: argparse.Namespace, model: TextToLatents, vae_db: float) -> dict[str, str]:
    training = {
        "seed": options.seed,
        "vae_steps": sum(phase.steps for phase in PHASES),
        "steps": {phase.state.removesuffix(".pt"): phase.steps for phase in phases(options.steps)},
        "pool": options.pool,
        "vae_psnr_db": round(vae_db, 2),
        "tokens": len(model.vocabulary),
        "parameters_unet": sum(value.numel() for value in model.unet.parameters()),
    }
    return {
        "title": "Growth Inhibitors demo model",
        "architecture": "stable-diffusion-v1",
        "data": "procedurally drawn scenes of Noto Color Emoji (OFL 1.1)",
        "training": json.dumps(training),
        "license": "MIT; glyphs: OFL 1.1",
    }


def main() -> None:
    """Train what is not trained yet and write the checkpoint."""
    options = _arguments()
    keep_memory()
    _start_from(options)
    vae = _trained_vae(options)
    images = random_images(np.random.default_rng(step_seed(options.seed, -3) % 2**32), 64)  # [64, 3, H, W]
    vae_db = psnr(images, reconstruct(vae, images))
    print(f"autoencoder: {vae_db:.1f} dB on new scenes")
    model = train_diffusion(
        vae,
        ReducedVocabulary(load_tokenizer()),
        reserved_captions(),
        seed=options.seed,
        steps=options.steps,
        pool=options.pool,
        folder=options.state,
    )
    with torch.no_grad():
        export(model, vae, options.out, _metadata(options, model, vae_db))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
