"""``python -m lib_gie convert``: adapters of the authors' code as safetensors files."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib_gie.core.scales.adapter import convert_authors, save_adapter
from lib_gie.errors import AdapterError
from lib_gie.options import LOWEST_SCALE

from .outputs import check_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", type=Path, help="the authors' state dict, .pth")
    parser.add_argument("--concept", required=True, action="append", help="what it was trained for; may be repeated")
    parser.add_argument("--base", default="sd1", help="model family it was trained on (default: sd1)")
    parser.add_argument(
        "--range",
        nargs=2,
        type=float,
        default=(LOWEST_SCALE, 0.0),
        metavar=("LOW", "HIGH"),
        help="least and greatest scale among its labels, both at most 0 (default: -20 0)",
    )
    parser.add_argument("--out", type=Path, help="file to write (default: beside FILE, .safetensors)")


def run(options: argparse.Namespace) -> None:
    """Convert one file."""
    out = options.out or options.file.with_suffix(".safetensors")
    if out.suffix != ".safetensors":
        raise AdapterError(f"--out is {out.name}; adapters are .safetensors files")
    check_file("--out", out)
    adapter = convert_authors(options.file, options.base, options.concept, tuple(options.range))
    save_adapter(adapter, out)
    print(f"wrote {out}: {adapter.info.inputs} inputs, base {adapter.info.base}, {', '.join(adapter.info.concepts)}")
