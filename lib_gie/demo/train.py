"""``python -m lib_gie.demo.train``: make the demo checkpoint, on a graphics card in minutes, on two cores in hours.

The result depends on ``--seed`` and the kind of machine alone. The training can be interrupted at any time and goes on
when it is called again with the same ``--state`` folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from lib_gie.assets import DEMO_CHECKPOINT

from . import diffusion, vae
from .diffusion import Course, TextToLatents, train_diffusion
from .export import export, restore
from .loop import OnSaved, keep_memory, load_state, save_state
from .machine import Machine, this_machine
from .parts import split
from .pool import Pool, as_input, draw_pool
from .sampling_settings import SIZE
from .text import ReducedVocabulary, load_tokenizer
from .world.splits import reserved_captions

_NEW_SCENES = 1_000_003  # added to the seed: scenes that no training has seen
_MEASURED = 256  # of them, for the autoencoder's figure


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib_gie.demo.train", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--size", type=int, choices=(64, 128), default=SIZE, help="pixels per side")
    parser.add_argument("--steps", type=int, help="of text encoder and UNet")
    parser.add_argument("--pool", type=int, default=20480, help="drawn scenes to train on")
    parser.add_argument("--state", type=Path, default=Path("runs/demo"), help="folder of the resumable state")
    parser.add_argument("--start-from", type=Path, help="checkpoint to train on from, where --state is still empty")
    parser.add_argument(
        "--parts",
        type=Path,
        metavar="DIR",
        help="also write the checkpoint so far there, every 250 steps, in files of at most 16 MB, which python -m "
        "lib_gie.demo.parts joins and --start-from goes on from",
    )
    parser.add_argument("--out", type=Path, default=DEMO_CHECKPOINT)
    return parser.parse_args()


def _trained_vae(options: argparse.Namespace, autoencoder, pool: Pool, machine: Machine):
    """Return the trained autoencoder, from ``vae_final.pt`` where that is there."""
    final = options.state / "vae_final.pt"
    identity = _identity(options, f"images {pool.images_digest}")
    state = load_state(final, identity)
    if state is None:
        phases = vae.FROM_NOTHING if options.start_from is None else vae.FURTHER
        vae.train_vae(
            autoencoder, pool, phases, seed=options.seed, folder=options.state, machine=machine, identity=identity
        )
        save_state(final, {"identity": identity, "module": autoencoder.state_dict()})
    else:
        autoencoder.load_state_dict(state["module"])
    return autoencoder.to(machine.device).eval()


def _identity(options: argparse.Namespace, data: str) -> str:
    """Return in words what the training's states depend on beside its phases. ``data``: a digest of what it sees."""
    start = hashlib.sha256(options.start_from.read_bytes()).hexdigest()[:16] if options.start_from else "nothing"
    return f"seed {options.seed}, {options.size} pixels, from {start}, {data}"


def _course(options: argparse.Namespace) -> Course:
    course = diffusion.FROM_NOTHING if options.start_from is None else diffusion.FURTHER
    return course if options.steps is None else dataclasses.replace(course, steps=options.steps)


def _handing_over(
    options: argparse.Namespace, model: TextToLatents, autoencoder, metadata: dict[str, str]
) -> OnSaved | None:
    """Return what writes the checkpoint so far in parts, None where --parts is not given."""
    if options.parts is None:
        return None

    def hand_over(average: Mapping[str, torch.Tensor], done: int) -> None:
        so_far = TextToLatents(model.vocabulary, options.size)
        so_far.load_state_dict(dict(average))
        path = options.state / "so-far.safetensors"
        export(so_far, autoencoder, path, {**metadata, "steps_done": str(done)}, options.size)
        split(path, options.parts)

    return hand_over


def _metadata(options: argparse.Namespace, machine: Machine, model: TextToLatents, vae_db: float) -> dict[str, str]:
    training = {
        "seed": options.seed,
        "size": options.size,
        "device": machine.device.type,
        "started_from": options.start_from.name if options.start_from else None,
        "steps": _course(options).steps,
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
    machine = this_machine(options.device)
    torch.manual_seed(options.seed)
    model, autoencoder = TextToLatents(ReducedVocabulary(load_tokenizer()), options.size), vae.build_vae(options.size)
    if options.start_from is not None:
        restore(model, autoencoder, options.start_from)
    pool = draw_pool(options.seed, options.pool, options.size, reserved=reserved_captions())
    autoencoder = _trained_vae(options, autoencoder, pool, machine)
    new = draw_pool(options.seed + _NEW_SCENES, _MEASURED, options.size, processes=1)
    images = as_input(new.images, machine.device)  # [N, 3, H, W]
    vae_db = vae.psnr(images, vae.reconstruct(autoencoder, images))
    print(f"autoencoder: {vae_db:.1f} dB on new scenes", flush=True)
    course = _course(options)
    identity = _identity(options, f"pool {pool.digest}")
    metadata = _metadata(options, machine, model, vae_db)
    train_diffusion(
        model,
        autoencoder,
        pool,
        course,
        seed=options.seed,
        folder=options.state,
        machine=machine,
        identity=identity,
        on_saved=_handing_over(options, model, autoencoder, metadata),
    )
    export(model.cpu(), autoencoder.cpu(), options.out, metadata, options.size)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
