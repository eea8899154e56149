"""``python -m lib_gie bench``: time and memory of erasure beside the model alone and other ways."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.errors import OptionError

from .outputs import check_folder, png, write_files
from .pages import around, write_part

if TYPE_CHECKING:
    import torch

_MEBI = 2**20
_STEPS = 20  # a usual generation's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--size", default="demo", choices=("demo", "sd15", "sdxl"), help="of the UNet; all but demo with random weights"
    )
    parser.add_argument("--steps", type=int, help="of one generation (default: 20 on demo, 4 on sd15, 3 on sdxl)")
    parser.add_argument("--pixels", type=int, nargs="+", help="image sides (default: the size's)")
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--rounds", type=int, default=5, help="each variant once per round, in turn")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="some of them (default: all)")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--growth", action="store_true", help="instead: how the cost grows, as a plot")
    other.add_argument("--profile", action="store_true", help="instead: where the time of one step goes")
    other.add_argument("--layers", action="store_true", help="instead: other ways to compute one layer's term")
    other.add_argument("--labelling", action="store_true", help="instead: images labelled per minute, demo model")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into this Markdown page's part")
    parser.add_argument("--json", action="store_true", help="print a JSON list, and the tables to standard error")


def _check(options: argparse.Namespace) -> None:
    from lib_gie.evaluation.bench.speed import VARIANTS

    for name, low, high in (("steps", 2, 1000), ("batch", 1, 64), ("rounds", 1, 1000)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise OptionError(f"--{name} is {value}; it must be from {low} to {high}")
    for side in options.pixels or ():
        if side % 64 or not 64 <= side <= 2048:
            raise OptionError(f"--pixels has {side}; sides must be multiples of 64 from 64 to 2048")
    unknown = set(options.variants or ()) - set(VARIANTS)
    if unknown:
        raise OptionError(f"--variants has {', '.join(sorted(unknown))}; there are: {', '.join(VARIANTS)}")


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
    else:
        rows, text = _compare(options)
    if options.page:
        write_part(options.page, _command(options), text)
    print(text, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(rows))


def _command(options: argparse.Namespace) -> str:
    """Return the command line without the arguments that do not change what is measured, such as --json."""
    modes = ("growth", "profile", "layers", "labelling")
    mode = next((f" --{name}" for name in modes if getattr(options, name)), "")
    pixels = f" --pixels {' '.join(map(str, options.pixels))}" if options.pixels else ""
    return "bench" + (mode if options.labelling or options.layers else f" --size {options.size}{pixels}{mode}")


def _plot_name(options: argparse.Namespace) -> str:
    return f"bench-{options.size}.png"


def _setting(options: argparse.Namespace, pixels: int):
    from lib_gie.evaluation.bench.speed import Setting
    from lib_gie.evaluation.bench.unets import SIZES

    return Setting(options.size, pixels, options.batch, options.steps or SIZES[options.size].steps)


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
    from lib_gie.evaluation.bench.speed import VARIANTS, Sampler, alternate, peaks, ratios
    from lib_gie.evaluation.bench.unets import SIZES

    names = ["stock", *(name for name in options.variants or VARIANTS if name != "stock")]
    settings = [_setting(options, pixels) for pixels in options.pixels or SIZES[options.size].pixels]
    # memory first: two models at once would not fit everywhere
    memory = [{} if options.no_memory else peaks(setting, names, _device()) for setting in settings]
    sampler, rows, texts = Sampler(settings[0], _device()), [], [_machine()]
    for setting, peak in zip(settings, memory, strict=True):
        sampler.use(setting)
        label = f"{options.size}, {setting.pixels} pixels"
        times = alternate(sampler, {name: VARIANTS[name] for name in names}, options.rounds, label)
        found = [_row(setting, name, ratio, times[name], peak) for name, ratio in ratios(times).items()]
        texts.append(_table(setting, options.rounds, found))
        rows += found
    return rows, "\n\n".join(texts)


def _middle(values: list[int] | None) -> int | None:
    return round(statistics.median(values)) if values else None


def _row(setting, name: str, ratio, times: list[list[float]], peaks: dict[str, list[int]]) -> dict:
    all_peaks = peaks.get(name, [])
    own, base = _middle(all_peaks), _middle(peaks.get("stock"))
    return {
        "size": setting.size, "pixels": setting.pixels, "batch": setting.batch, "variant": name,
        "ratio": round(ratio.median, 4), "ratio_min": round(ratio.least, 4), "ratio_max": round(ratio.greatest, 4),
        "once": round(ratio.once, 4), "ratio_of_generation": round(ratio.of_generation(_STEPS), 4),
        "memory_ratio": round(own / base, 4) if own and base else None,
        "seconds_per_step": round(statistics.median(step for steps in times for step in steps[1:]), 4),
        "memory": own, "memory_min": min(all_peaks, default=None), "memory_max": max(all_peaks, default=None),
    }  # fmt: skip


def _table(setting, rounds: int, rows: list[dict]) -> str:
    from lib_gie.evaluation.figures import table

    header = ("variant", "step over stock's", "of all pairs", "once, in steps", f"{_STEPS} steps over stock's",
              "seconds per step", "peak memory", "of all runs", "over stock's")  # fmt: skip
    cells = [
        (
            row["variant"],
            f"{row['ratio']:.3f}",
            f"{row['ratio_min']:.3f} to {row['ratio_max']:.3f}",
            f"{row['once']:+.2f}",
            f"{row['ratio_of_generation']:.3f}",
            f"{row['seconds_per_step']:.3f}",
            "-" if row["memory"] is None else f"{row['memory'] / _MEBI:.0f} MiB",
            "-" if row["memory"] is None else f"{row['memory_min'] / _MEBI:.0f} to {row['memory_max'] / _MEBI:.0f}",
            "-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.3f}",
        )
        for row in rows
    ]
    images = "one image" if setting.batch == 1 else f"{setting.batch} images at once"
    pairs = rounds * (setting.steps - 1)
    head = f"{setting.size}, {setting.pixels}x{setting.pixels} pixels, {images}, {pairs} pairs of steps"
    return f"{head}:\n\n{table(header, cells)}"


# -- the others ------------------------------------------------


def _growth(options: argparse.Namespace) -> tuple[list[dict], str]:
    from dataclasses import asdict

    from lib_gie.evaluation.bench.growth import growth
    from lib_gie.evaluation.bench.speed import Sampler
    from lib_gie.evaluation.bench.unets import SIZES
    from lib_gie.evaluation.figures import table
    from lib_gie.pictures.growth_plot import growth_plot

    setting = _setting(options, (options.pixels or SIZES[options.size].pixels)[0])
    points = growth(Sampler(setting, _device()), options.rounds)
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
        picture, name = growth_plot(axes, f"{options.size}, {setting.pixels} pixels, {_machine()}"), _plot_name(options)
        write_files(options.page.parent / "images", {name: png(picture)})
        text = f"![How the cost grows](images/{name})\n\n{text}"
    return [asdict(point) for point in points], text


def _profile(options: argparse.Namespace) -> tuple[list[dict], str]:
    from lib_gie.evaluation.bench.profiling import profile
    from lib_gie.evaluation.bench.speed import Sampler
    from lib_gie.evaluation.bench.unets import SIZES

    setting = _setting(options, (options.pixels or SIZES[options.size].pixels)[0])
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
