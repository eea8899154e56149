"""Where the commands would compute. This imports torch."""

from __future__ import annotations

import shutil

from .finding import Finding

_SHARED = "calibrate, train, judge, evaluate and bench use it; erase, demo and quality use the CPU"
_BROKEN = "install torch again, as its site says (https://pytorch.org/get-started/locally)"


def check_device() -> Finding:
    """Look at what torch computes on. A torch that cannot be imported is a problem."""
    try:
        import torch

        from lib_gie.hosts.diffusers import processes

        device = processes.device()
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("problem", "device", f"torch cannot be used ({type(error).__name__}: {error})", _BROKEN)
    if device.type == "cuda":
        return Finding("ok", "device", f"{torch.cuda.get_device_name(device)} ({device}); {_SHARED}")
    threads = torch.get_num_threads()
    shown = f"the CPU, with {threads} thread{'' if threads == 1 else 's'}"
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", "device", shown)
    if torch.version.cuda is None:
        told = f"{shown}; this torch is made for CPUs alone"
        return Finding("note", "device", told, f"to use an NVIDIA card, {_BROKEN}")
    told = f"{shown}; torch finds no NVIDIA card"
    return Finding("note", "device", told, "if there should be one, nvidia-smi says whether the driver sees it")
