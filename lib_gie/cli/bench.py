"""``python -m lib_gie bench``: time and memory of erasure beside the model alone and other ways."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.errors import OptionError

from .examples import Example
from .outputs import check_folder, png, write_files
from .pages import around, write_part

if TYPE_CHECKING:
    import torch

    from lib_gie.evaluation.bench.sampler import Setting

_ROUNDS, _ROUNDS_ON_GPU = 5, 3
_BATCHES_ON_GPU = (1, 4)
_SIZES = ("demo", "sd15", "sdxl")
_MODES = ("growth", "profile", "layers", "labelling", "kernels")


EXAMPLES = (
    Example(
        "--rounds 1 --no-memory",
        "The demo model, each variant once, without its memory. It takes some minutes on a CPU.",
    ),
    Example("--kernels --size sdxl", "Counts what one step costs on a GPU, without one."),
    Example(
        "--size sd15 --steps 4 --batch 1",
        "SD 1.5's sizes with random weights, with which some GB of memory are filled.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--size", nargs="+", choices=_SIZES,
        help="sizes of the UNet; all but demo have random weights (default: demo; on a GPU and with --kernels all)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, help="steps of one image (default: 20 on demo, 4 on sd15, 3 on sdxl; on a GPU 20, 20, 10)"
    )
    parser.add_argument(
        "--pixels", type=int, nargs="+", help="sides of the images (default: what is usual for the size)"
    )
    parser.add_argument("--batch", type=int, nargs="+", help="images made at once (default: 1; on a GPU 1 and 4)")
    parser.add_argument(
        "--rounds", type=int, help="rounds, each of which runs every variant once (default: 5; on a GPU 3)"
    )
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="measure these variants (default: all)")
    parser.add_argument("--no-memory", action="store_true", help="measure times alone")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--growth", action="store_true", help="measure instead how the cost grows, as a plot")
    other.add_argument("--profile", action="store_true", help="measure instead where the time of one step goes")
    other.add_argument("--layers", action="store_true", help="measure instead other ways to compute one layer's term")
    other.add_argument(
        "--labelling",
        action="store_true",
        help="measure instead how many images of the demo model are labelled in a minute",
    )
    other.add_argument("--kernels", action="store_true", help="count instead the kernels of a step, which needs no GPU")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the tables into their part of this Markdown page, too"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list, and the tables to standard error")


def _check(options: argparse.Namespace) -> None:
    from lib_gie.evaluation.bench.variants import VARIANTS

    numbers = [("steps", options.steps, 2, 1000), ("rounds", options.rounds, 1, 1000)]
    for name, value, low, high in [*numbers, *(("batch", batch, 1, 64) for batch in options.batch or ())]:
        if value is not None and not low <= value <= high:
            raise OptionError(f"--{name} is {value}; it must be from {low} to {high}")
    for side in options.pixels or ():
        if side % 64 or not 64 <= side <= 2048:
            raise OptionError(f"--pixels has {side}; sides must be multiples of 64 from 64 to 2048")
    unknown = set(options.variants or ()) - set(VARIANTS)
    if unknown:
        raise OptionError(f"--variants has {', '.join(sorted(unknown))}; there are: {', '.join(VARIANTS)}")
    if (options.growth or options.profile) and len(options.size or ()) > 1:
        raise OptionError(f"--size has {len(options.size)} sizes; --growth and --profile take one. Run them by turns")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    _check(options)
    if options.page:
        around(options.page, _command(options))  # a page without the part is an error now, not after the work
        if options.growth:
            check_folder("--page", options.page.parent / "images", [_plot_name(options)])
    if options.growth:
        rows, text = _growth(options)
    elif options.profile:
        rows, text = _profile(options)
    elif options.layers:
        rows, text = _layers()
    elif options.labelling:
        rows, text = _labelling()
    elif options.kernels:
        rows, text = _kernels(options)
    else:
        rows, text = _compare(options)
    if options.page:
        write_part(options.page, _command(options), text)
    print(text, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(rows))


def _command(options: argparse.Namespace) -> str:
    """Return the command line without the arguments that do not change what is measured, such as --json."""
    mode = next((f" --{name}" for name in _MODES if getattr(options, name)), "")
    if options.labelling or options.layers:
        return f"bench{mode}"
    sizes = options.size if options.kernels else _sizes(options)
    given = {"size": sizes, "pixels": options.pixels, "batch": options.batch}
    words = [f" --{name} {' '.join(map(str, values))}" for name, values in given.items() if values]
    return f"bench{''.join(words)}{mode}"


def _plot_name(options: argparse.Namespace) -> str:
    return f"bench-{_sizes(options)[0]}.png"


def _is_on_gpu() -> bool:
    return _device().type == "cuda"


def _sizes(options: argparse.Namespace) -> list[str]:
    """Return the sizes to work on; --growth and --profile look at one."""
    is_short = options.kernels or (_is_on_gpu() and not options.growth and not options.profile)
    return options.size or (list(_SIZES) if is_short else ["demo"])


def _settings(options: argparse.Namespace, size: str) -> list[Setting]:
    """Return what is measured of a size, image side by image side."""
    from lib_gie.evaluation.bench.sampler import Setting
    from lib_gie.evaluation.bench.unets import SIZES

    known, on_gpu = SIZES[size], _is_on_gpu()
    steps = options.steps or (known.gpu_steps if on_gpu else known.steps)
    sides = options.pixels or ((known.gpu_pixels,) if on_gpu else known.pixels)
    batches = options.batch or (_BATCHES_ON_GPU if on_gpu else (1,))
    return [Setting(size, pixels, batch, steps) for pixels in sides for batch in batches]


def _device() -> torch.device:
    from lib_gie.hosts.diffusers import processes

    return processes.device()


def _machine() -> str:
    import torch

    device = _device()
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, float16, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} threads, float32, torch {torch.__version__}"


# -- the comparison ------------------------------------------------


def _compare(options: argparse.Namespace) -> tuple[list[dict], str]:
    from lib_gie.evaluation.bench.comparison import comparison_table, rows_of
    from lib_gie.evaluation.bench.speed import alternate
    from lib_gie.evaluation.bench.variants import VARIANTS

    names = ["stock", *(name for name in options.variants or VARIANTS if name != "stock")]
    rounds = options.rounds or (_ROUNDS_ON_GPU if _is_on_gpu() else _ROUNDS)
    rows, texts = [], [_machine()]
    for size in _sizes(options):
        for setting, sampler, peaks in _prepared(_settings(options, size), names, options):
            label = f"{size}, {setting.pixels} pixels"
            runs = alternate(sampler, {name: VARIANTS[name] for name in names}, rounds, label)
            found = rows_of(setting, runs, peaks)
            texts.append(comparison_table(setting, rounds, found))
            rows += found
    return rows, "\n\n".join(texts)


def _prepared(settings: list[Setting], names: list[str], options: argparse.Namespace) -> Iterator[tuple]:
    """Yield each setting of one size with a sampler in it and with every variant's peaks of memory."""
    from lib_gie.evaluation.bench.memory import peaks, peaks_on_gpu
    from lib_gie.evaluation.bench.sampler import Sampler

    is_measured, on_gpu = not options.no_memory, _is_on_gpu()
    # by processes, and so before the model is here: two at once would not fit everywhere
    apart = [peaks(setting, names) if is_measured and not on_gpu else {} for setting in settings]
    sampler = Sampler(settings[0], _device())
    for setting, found in zip(settings, apart, strict=True):
        sampler.use(setting)
        yield setting, sampler, peaks_on_gpu(sampler, names) if is_measured and on_gpu else found


# -- the others ------------------------------------------------


def _growth(options: argparse.Namespace) -> tuple[list[dict], str]:
    from dataclasses import asdict

    from lib_gie.evaluation.bench.growth import growth
    from lib_gie.evaluation.bench.sampler import Sampler
    from lib_gie.evaluation.figures import table
    from lib_gie.pictures.growth_plot import growth_plot

    setting = _settings(options, _sizes(options)[0])[0]
    points = growth(Sampler(setting, _device()), options.rounds or _ROUNDS)
    cells = [
        (
            p.axis,
            p.value,
            f"{p.ratio.median:.3f}",
            f"{p.ratio.least:.3f} to {p.ratio.greatest:.3f}",
            f"{p.ratio.once:+.2f}",
        )
        for p in points
    ]
    header = ("axis", "value", "step over stock's", "of all pairs", "once, in steps")
    text = f"{_machine()}\n\n{table(header, cells)}"
    if options.page:
        axes: dict[str, list] = {}
        for p in points:
            axes.setdefault(p.axis, []).append((p.value, p.ratio.median, p.ratio.least, p.ratio.greatest))
        picture, name = growth_plot(axes, f"{setting.size}, {setting.pixels} pixels, {_machine()}"), _plot_name(options)
        write_files(options.page.parent / "images", {name: png(picture)})
        text = f"![How the cost grows](images/{name})\n\n{text}"
    return [asdict(point) for point in points], text


def _profile(options: argparse.Namespace) -> tuple[list[dict], str]:
    from lib_gie.evaluation.bench.profiling import profile
    from lib_gie.evaluation.bench.sampler import Sampler

    setting = _settings(options, _sizes(options)[0])[0]
    rows = profile(Sampler(setting, _device()), options.variants or ["stock", "fused 1"])
    return rows, f"{_machine()}, ms of one generation by operator:\n\n{_plain_table(rows)}"


def _plain_table(rows: list[dict]) -> str:
    from lib_gie.evaluation.figures import table

    return table(list(rows[0]), [list(row.values()) for row in rows])


def _layers() -> tuple[list[dict], str]:
    from lib_gie.evaluation.bench.layer_ways import layer_times

    rows = layer_times(_device())
    return rows, f"{_machine()}, ms of one layer and one image:\n\n{_plain_table(rows)}"


def _labelling() -> tuple[list[dict], str]:
    from dataclasses import asdict

    from lib_gie.evaluation.bench.labelling_speed import labelling_paces
    from lib_gie.evaluation.figures import table

    paces = labelling_paces(count=24)
    header = ("images at once", "scales", "labels", "images", "seconds", "labels per minute", "images per minute")
    cells = [
        (
            p.batch, "searched" if p.search else "all of the grid", p.labels, p.images, f"{p.seconds:.1f}",
            f"{p.per_minute:.1f}", f"{60 * p.images / p.seconds:.1f}",
        )
        for p in paces
    ]  # fmt: skip
    return [asdict(pace) for pace in paces], f"{_machine()}\n\n{table(header, cells)}"


def _kernels(options: argparse.Namespace) -> tuple[list[dict], str]:
    import torch

    from lib_gie.evaluation.bench.estimate import estimate_row, estimate_table, estimates
    from lib_gie.evaluation.bench.kernels import COUNTS_PRODUCTS
    from lib_gie.evaluation.bench.unets import SIZES

    if not COUNTS_PRODUCTS:
        raise OptionError(f"--kernels needs torch 2.2 or newer, and this is {torch.__version__}; install a newer one")
    rows = [
        estimate_row(one)
        for size in _sizes(options)
        for pixels in options.pixels or (SIZES[size].gpu_pixels,)
        for batch in options.batch or (1,)
        for one in estimates(size, pixels, batch)
    ]
    return rows, f"Counted for float16, not measured, torch {torch.__version__}:\n\n{estimate_table(rows)}"
