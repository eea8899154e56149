"""``python -m lib_gie convert``: adapters of the authors' code as safetensors files."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib_gie.core.scales.adapter import convert_authors, save_adapter
from lib_gie.errors import AdapterError
from lib_gie.options import LOWEST_SCALE

from .examples import Example
from .outputs import check_file

EXAMPLES = (
    Example(
        "adapter.pth --concept nudity",
        "This needs a file of the authors' code, here adapter.pth. It writes adapter.safetensors.",
    ),
    Example(
        'adapter.pth --concept "van gogh" --range -10 0 --out models/my-van-gogh.safetensors',
        "The same, for another place, and with the range of the labels that it was trained on.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", type=Path, help="file of the authors' code with the adapter's weights (.pth)")
    parser.add_argument(
        "--concept", required=True, action="append", help="what the adapter was trained for; may be repeated"
    )
    parser.add_argument("--base", default="sd1", help="model family that the adapter was trained on (default: sd1)")
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
        raise AdapterError(
            f"--out is {out.name}; adapters are .safetensors files, so give a name that ends in .safetensors"
        )
    check_file("--out", out)
    adapter = convert_authors(options.file, options.base, options.concept, tuple(options.range))
    save_adapter(adapter, out)
    print(f"wrote {out}: {adapter.info.inputs} inputs, base {adapter.info.base}, {', '.join(adapter.info.concepts)}")
