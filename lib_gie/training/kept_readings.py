"""Keeps what prompts give adapters as inputs: to read thousands of prompts takes minutes, and may be interrupted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from tqdm import tqdm

from lib_gie.core.scales.files import checked, loaded, write_file
from lib_gie.errors import AdapterError
from lib_gie.json_lines import identity_digest

Read = Callable[[Sequence[str]], list[torch.Tensor]]
"""Reads prompts: for each concept float32 [B, inputs, n]."""

BLOCK = 64
"""Prompts of a file. The same prompts in the same batches give the same bits."""

_ALWAYS_READ = "a photo"

_SAME = 1e-3
"""The share of their own size by which a prompt's inputs may differ from those that were kept."""


class KeptReadings:
    """Inputs of prompts for ``concepts`` concepts, in files of one block each.

    ``identity``: all that they depend on beside the prompts. ``folder``: where they are kept; None: nowhere. One prompt
    is read by itself before anything that was kept is used. Where that gives other inputs (another precision, a foreign
    file), everything that was kept of this identity is deleted, and all prompts are read again.
    """

    def __init__(self, concepts: int, identity: str, folder: Path | None):
        self._concepts, self._folder = concepts, folder
        self._start = f"read-{identity_digest(identity)}"
        self._is_checked = False

    def read(self, prompts: Sequence[str], read: Read) -> list[torch.Tensor]:
        """Return the inputs of prompts, for each concept float32 [B, inputs, n]. ``read``: reads what is not kept."""
        if self._folder is not None and not self._is_checked:
            self._check(self._folder, read)
        blocks = [prompts[start : start + BLOCK] for start in range(0, len(prompts), BLOCK)]
        found = []
        with tqdm(
            total=len(prompts), desc="reading prompts", unit=" prompts", mininterval=5, delay=5, leave=False
        ) as bar:
            for block in blocks:
                found.append(self._of(block, read))
                bar.update(len(block))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _check(self, folder: Path, read: Read) -> None:
        """Delete what was kept where the prompt that is always read gives other inputs than before."""
        self._is_checked = True
        now, path = read([_ALWAYS_READ]), self._path(folder, [_ALWAYS_READ])
        before = self._loaded(path, 1)
        if before and not all(is_same(*both) for both in zip(now, before, strict=True)):
            print("the model reads prompts otherwise than before, so all are read again", file=sys.stderr)
            for other in folder.glob(f"{self._start}-*.safetensors"):
                other.unlink(missing_ok=True)
        _write(path, now)

    def _of(self, prompts: Sequence[str], read: Read) -> list[torch.Tensor]:
        """Return the inputs of a block: those that were kept, or those that are read now, which are kept then."""
        if self._folder is None:
            return read(prompts)
        path = self._path(self._folder, prompts)
        found = self._loaded(path, len(prompts))
        if not found:
            found = read(prompts)
            _write(path, found)
        return found

    def _path(self, folder: Path, prompts: Sequence[str]) -> Path:
        return folder / f"{self._start}-{identity_digest(json.dumps(list(prompts)))}.safetensors"

    def _loaded(self, path: Path, rows: int) -> list[torch.Tensor]:
        """Return a block's inputs; none where no file has them, or it is damaged."""
        try:
            data = path.read_bytes()
            tensors = checked(lambda: loaded(data), path.name)
            kept = [tensors[str(number)] for number in range(self._concepts)]
        except (OSError, AdapterError, LookupError):
            return []
        are_inputs = all(own.dtype == torch.float32 and own.ndim == 3 and len(own) == rows for own in kept)
        return kept if are_inputs and all(bool(torch.isfinite(own).all()) for own in kept) else []


def _write(path: Path, found: Sequence[torch.Tensor]) -> None:
    with suppress(OSError):  # a full disk costs the next training time, and no more
        write_file(path, {str(number): own.contiguous() for number, own in enumerate(found)}, {})


def is_same(found: torch.Tensor, kept: torch.Tensor) -> bool:
    """Tell whether what a prompt gives now is what was kept of it, both float32 of one shape; NaN never is."""
    return found.shape == kept.shape and float((found - kept).norm()) <= _SAME * float(kept.norm())
