"""Looks at a model's files before they are loaded, and says in one sentence what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib_gie.errors import GieError

_HEAD = 512  # bytes that tell what a file is
_MOST_HEADER = 100 * 2**20  # bytes, as safetensors itself has it
_BLOCK = 2**24  # bytes
_UNET = "model.diffusion_model."
_OTHER_FAMILIES = {
    "conditioner.embedders.": "SDXL",
    "cond_stage_model.model.": "SD 2.x",
    f"{_UNET}joint_blocks.": "SD3",
    f"{_UNET}double_blocks.": "FLUX",
}
"""Families that cannot be loaded from one file here, by the beginning of a tensor's name."""

_OTHER_THINGS = {"lora_": "a LoRA", "hidden.0.": "an adapter of this project", "encoder.": "an autoencoder"}
_WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model|pytorch_model)(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)"
)
_PARTS = ("unet", "vae", "text_encoder")


class ModelError(GieError):
    """A model file or folder that cannot be loaded."""


def check_file(path: Path) -> None:
    """Raise ModelError where a file is no whole SD 1.x checkpoint in safetensors. OSError: it cannot be read."""
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is no .safetensors file, and other formats can run code when they are opened; give a "
            f".safetensors file or a diffusers folder"
        )
    _check_family(path.name, _tensor_names(path, path.name))


def _tensor_names(path: Path, name: str) -> Iterable[str]:
    """Return the header of a whole safetensors file. ``name``: what the file is called in errors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        _refuse_other_kinds(head, name)
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else size
        if length > _MOST_HEADER:
            raise ModelError(f"{name} is no safetensors file, whatever its name says; download it again")
        if length > size - 8:
            raise ModelError(f"{name} breaks off after {size:,} bytes, within its header; download it again")
        file.seek(8)
        raw = file.read(length)
    try:
        header: dict[str, Any] = json.loads(raw)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"the header of {name} cannot be read, so it is no safetensors file; download it again"
        ) from error
    if size < whole:
        raise ModelError(f"{name} breaks off after {size:,} of {whole:,} bytes; download it again")
    return header


def _refuse_other_kinds(head: bytes, name: str) -> None:
    text = head.lstrip().lower()
    if not head:
        raise ModelError(f"{name} is empty; download it again")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{name} is only a Git LFS pointer to the weights; run git lfs pull, or download the file itself"
        )
    if text.startswith((b"<!doctype html", b"<html")):
        raise ModelError(f"{name} is a web page, not a model; download the file that the page links to")
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        raise ModelError(
            f"{name} is a pickle under another name, which can run code when it is opened; get the model as safetensors"
        )


def _check_family(name: str, keys: Iterable[str]) -> None:
    keys = list(keys)
    for beginning, family in _OTHER_FAMILIES.items():
        if any(key.startswith(beginning) for key in keys):
            raise ModelError(
                f"{name} is a checkpoint of {family}; give an SD 1.x file, or SD 2.x as a diffusers folder (the WebUI "
                f"takes SDXL, too)"
            )
    if not any(key.startswith(_UNET) for key in keys):
        kind = next(
            (kind for beginning, kind in _OTHER_THINGS.items() if any(k.startswith(beginning) for k in keys)), ""
        )
        raise ModelError(f"{name} has no UNet{f', it is {kind}' if kind else ''}; give an SD 1.x checkpoint")


def checkpoint_digest(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a model's file, or of all files of its folder."""
    found = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                found.update(block)
    return found.hexdigest()[:16]


# -- folders ------------------------------------------------


def check_folder(path: Path) -> None:
    """Raise ModelError where a folder holds no SD 1.x or 2.x pipeline of diffusers. OSError: it cannot be read."""
    _check_index(path, _index(path))
    for part in _PARTS:
        _check_weights(path, part)


def _index(path: Path) -> dict[str, Any]:
    index = path / "model_index.json"
    if not index.is_file():
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".ckpt"))
        holds = (
            f"holds the files {', '.join(files[:3])}{', ...' if files[3:] else ''}: give one of them"
            if files
            else ("is no diffusers folder: give one, or a .safetensors file")
        )
        raise ModelError(f"{path} has no model_index.json and {holds}")
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{index} is no JSON; download the folder again") from error
    if not isinstance(found, dict) or not isinstance(found.get("_class_name"), str):
        raise ModelError(f"{index} does not name a pipeline (_class_name); download the folder again")
    return found


def _check_index(path: Path, index: dict[str, Any]) -> None:
    kind = index["_class_name"]
    if any(part in index for part in ("text_encoder_2", "transformer", "prior")) or "XL" in kind or "3" in kind:
        raise ModelError(f"{path} is a {kind}; give a diffusers folder of SD 1.x or 2.x (the WebUI takes SDXL, too)")
    lacking = [part for part in _PARTS if not (path / part).is_dir()]
    if lacking:
        raise ModelError(
            f"{path} lacks {', '.join(lacking)}; a diffusers folder of SD 1.x or 2.x has {', '.join(_PARTS)}: download "
            f"it again"
        )


def _check_weights(path: Path, part: str) -> None:
    found = [(file, _WEIGHTS.fullmatch(file.name)) for file in sorted((path / part).iterdir())]
    variants = [(file, match["variant"]) for file, match in found if match]
    plain = [file for file, variant in variants if not variant]
    if not variants:
        raise ModelError(f"{path / part} holds no weights; download the folder again")
    if not plain:
        variant = variants[0][1]
        raise ModelError(
            f"{path / part} holds its weights as the variant {variant} alone; take '.{variant}' out of the files' "
            f"names, or save the pipeline without a variant"
        )
    for file in plain:
        if file.suffix == ".safetensors":
            _tensor_names(file, f"{path.name}/{part}/{file.name}")
