"""The benchmark: what it counts, what it prints, and that each way runs on a real UNet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import not_run
import pytest
import torch
from test_cli import fails, main

from lib_gie.cli import bench
from lib_gie.cli.pages import END, around, begin
from lib_gie.core.layers import find_cross_attention
from lib_gie.evaluation.bench import growth, layer_ways, memory, speed, variants
from lib_gie.evaluation.bench.clocks import EventClock
from lib_gie.evaluation.bench.estimate import estimates
from lib_gie.evaluation.bench.kernels import COUNTS_PRODUCTS, Kernels
from lib_gie.evaluation.bench.labelling_speed import Pace
from lib_gie.evaluation.bench.sampler import Sampler, Setting
from lib_gie.evaluation.bench.speed import Ratio, ratios

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(Setting("demo", 64, steps=2), torch.device("cpu"))


def test_steps_are_compared_pair_by_pair():
    times = {
        "stock": [[1.5, 1.0, 1.0], [3.0, 2.0, 2.0]],  # the machine was busy in the second round
        "other": [[2.6, 1.1, 1.2], [4.6, 2.2, 2.4]],
    }
    found = ratios(times)
    assert found["stock"] == Ratio(1.0, 1.0, 1.0, 0.0)
    other = found["other"]
    assert (other.median, other.least, other.greatest) == pytest.approx((1.15, 1.1, 1.2))
    # first steps: 2.6 and 2.3 steps against 1.5; 0.15 of that is what each of its steps takes more
    assert other.once == pytest.approx((2.6 + 2.3) / 2 - 1.5 - 0.15)
    assert other.of_generation(20) == pytest.approx(1.15 + other.once / 20)


@pytest.mark.parametrize("name", list(variants.VARIANTS))
def test_each_way_runs_and_leaves_nothing_behind(sampler, name):
    plain = sampler.sample(sampler.guided)
    variants.VARIANTS[name](sampler)
    assert len(sampler.seconds) == 2
    assert torch.equal(sampler.sample(sampler.guided), plain)


def test_ways_are_measured_in_turn(sampler):
    order = []
    ways = {name: lambda s, name=name: (order.append(name), variants.stock(s)) for name in "ab"}
    runs = speed.alternate(sampler, ways, 2, "test")
    assert order == ["a", "b"] * 3  # the first of them does not count
    assert [len(rounds) for rounds in runs.times.values()] == [2, 2]
    assert runs.kernels["a"] == runs.kernels["b"]


def test_a_device_that_has_to_get_warm_runs_whole_generations_first(sampler, monkeypatch):
    monkeypatch.setitem(speed.COLD, "cpu", 1)
    sampler.use(Setting("demo", 64, steps=3))
    lengths = []
    way = {"a": lambda s: (lengths.append(s.setting.steps), variants.stock(s))}
    runs = speed.alternate(sampler, way, 2, "test")
    sampler.use(Setting("demo", 64, steps=2))
    assert lengths == [2, 3, 3, 3]  # kernels are counted in the first, and the second does not count
    assert [len(steps) for steps in runs.times["a"]] == [3, 3]


def test_too_little_memory_names_the_variant(sampler):
    def large(sampler):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(speed.MeasuringError, match="too little memory for 'large'; leave it out by --variants"):
        speed.alternate(sampler, {"large": large}, 1, "test")


def test_command_prints_one_object_per_way(capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{begin('bench --size demo')}\n{END}\n", encoding="utf-8")
    options = ["--rounds", "1", "--steps", "2", "--no-memory", "--json", "--page", str(page)]
    assert main(["bench", "--variants", "fused 1", "separate", *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == ["stock", "fused 1", "separate"]
    assert {"size", "ratio", "ratio_min", "ratio_max", "memory_ratio", "once", "waits"} <= set(rows[0])
    assert rows[0]["kernels_ratio"] == 1 < rows[1]["kernels_ratio"] < rows[2]["kernels_ratio"]
    assert rows[0]["ratio"] == 1
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in rows)
    assert "| separate |" in page.read_text(encoding="utf-8")


def test_memory_is_measured_in_a_process_of_its_own():
    found = memory.peaks(Setting("demo", 64), ["stock"])["stock"]
    assert len(found) in (0, memory.PEAK_RUNS)
    assert all(peak > 100 * 2**20 for peak in found)


def test_a_measuring_process_that_fails_is_no_figure():
    with pytest.raises(speed.MeasuringError, match=r"the memory of 'stock' ended with 1 .*use --no-memory"):
        memory.peak_memory(Setting("no such size", 64, steps=2), "stock")


def test_memory_on_a_gpu_is_told_by_its_allocator(sampler, monkeypatch):
    calls, told = [], iter(range(100, 106))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: calls.append("read") or next(told))
    ways = {name: lambda s, name=name: (calls.append(name), variants.stock(s)) for name in "ab"}
    monkeypatch.setattr(memory, "VARIANTS", ways)
    assert memory.peaks_on_gpu(sampler, ["a", "b"]) == {"a": [100, 102, 104], "b": [101, 103, 105]}
    assert calls == ["reset", "a", "read", "reset", "b", "read"] * memory.PEAK_RUNS


class FakeEvent:
    """An event of a device that reached it at this many ms."""

    def __init__(self, reached: float):
        self.reached = reached

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.reached - self.reached


def test_a_device_times_steps_by_its_events_and_is_waited_for_at_the_end_alone():
    waited, reached = [], iter([10.0, 30.0, 35.0])
    clock = EventClock(lambda: FakeEvent(next(reached)), lambda: waited.append("wait"))
    clock.start()
    waited.clear()
    clock.tick()
    clock.tick()
    assert waited == []
    assert clock.stop() == pytest.approx([0.020, 0.005])
    assert waited == ["wait"]


def on_a_gpu(monkeypatch, *arguments: str) -> tuple[list[Setting], str]:
    """What the command would measure where there is a GPU, and how its part of a page is called."""
    monkeypatch.setattr(bench, "_is_on_gpu", lambda: True)
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    options = parser.parse_args(arguments)
    return [s for size in bench._sizes(options) for s in bench._settings(options, size)], bench._command(options)


def test_a_gpu_measures_all_sizes_as_they_are_used(monkeypatch):
    settings, command = on_a_gpu(monkeypatch)
    usual = (("demo", 64, 20), ("sd15", 512, 20), ("sdxl", 1024, 10))
    assert settings == [Setting(size, side, batch, steps) for size, side, steps in usual for batch in (1, 4)]
    assert command == "bench --size demo sd15 sdxl"
    assert around(ROOT / "docs/PERFORMANCE.md", command)  # which has a part for it


def test_a_gpu_measures_what_is_asked(monkeypatch):
    settings, command = on_a_gpu(monkeypatch, "--size", "sd15", "--pixels", "256", "--batch", "2", "3", "--steps", "9")
    assert settings == [Setting("sd15", 256, 2, 9), Setting("sd15", 256, 3, 9)]
    assert command == "bench --size sd15 --pixels 256 --batch 2 3"


@pytest.mark.skipif(not COUNTS_PRODUCTS, reason=not_run.OLDER_TORCH)
def test_kernels_are_counted_for_both_arithmetics(capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{begin('bench --size demo --kernels')}\n{END}\n", encoding="utf-8")
    assert main(["bench", "--kernels", "--size", "demo", "--json", "--page", str(page)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["concepts"] for row in rows] == [1, 3, 8]
    for row in rows:
        assert row["few_kernels_kernels"] <= 3 * row["layers"] < row["least_work_kernels"]
        assert 1 < row["least_work_multiply_adds_ratio"] < row["few_kernels_multiply_adds_ratio"]
    assert "| demo, 64 pixels | 8 " in page.read_text(encoding="utf-8")


def test_no_step_waits_for_the_device():
    found = estimates("demo", 64, 1, (1,))[0]
    assert (found.stock.waits, found.few_kernels.waits, found.least_work.waits) == (0, 0, 0)
    assert 0 < found.once.waits < found.layers  # w is put there once, and not in each layer


def test_a_kernel_and_a_wait_that_a_layer_gets_more_are_seen():
    sampler = Sampler(Setting("demo", 64, steps=2), torch.device("meta"))
    before = speed.count_steps(sampler, variants.stock)[-1]
    layer = find_cross_attention(sampler.unet)[0].module
    layer.register_forward_hook(lambda module, args, output: output * float(output.amax()))
    assert speed.count_steps(sampler, variants.stock)[-1] - before == Kernels(kernels=2, waits=1)


def test_growth_has_each_axis(sampler, monkeypatch):
    for axis, values in (("CONCEPTS", (1, 2)), ("PIXELS", (64,)), ("BATCHES", (2,))):
        monkeypatch.setattr(growth, axis, values)
    points = growth.growth(sampler, 1)
    sampler.use(Setting("demo", 64, steps=2))
    axes = [(point.axis, point.value) for point in points]
    assert axes == [("concepts", 1), ("concepts", 2), ("pixels", 64), ("images at once", 2)]
    assert all(point.ratio.least > 0 for point in points)


def test_profile_lists_operators(capsys):
    assert main(["bench", "--profile", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert "aten::" in printed
    assert "| all " in printed


def test_all_ways_give_the_same(monkeypatch):
    """What is compared in time must be the same result; the attention kernel's stops before W_o."""
    case = layer_ways.make_case(torch.device("cpu"), 16, 64, 3)
    start, found = case.output.clone(), {}
    with torch.no_grad():
        for name, way in layer_ways.WAYS.items():
            case.output = start.clone()
            way(case)
            found[name] = case.output
    for name in ("concept by concept, logsumexp", "softmax, no chunks"):
        torch.testing.assert_close(found[name], found["as it is"], atol=1e-5, rtol=1e-5)
    assert not torch.equal(found["as it is"], start)


def test_layers_are_timed(capsys, monkeypatch):
    monkeypatch.setattr(layer_ways, "SHAPES", ((16, 64),))
    assert main(["bench", "--layers"]) == 0
    assert "as it is" in capsys.readouterr().out


def test_pace():
    pace = Pace(24, True, labels=10, images=40, seconds=30.0)
    assert pace.per_minute == 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "0"], "--rounds is 0; it must be from 1 to 1000"),
        (["--steps", "1"], "--steps is 1; it must be from 2 to 1000"),
        (["--batch", "4", "65"], "--batch is 65; it must be from 1 to 64"),
        (["--growth", "--size", "demo", "sd15"], "--size has 2 sizes; --growth and --profile take one"),
        (["--pixels", "100"], "--pixels has 100; sides must be multiples of 64"),
        (["--variants", "fast"], "--variants has fast; there are: stock, fused 1"),
        (["--page", "no such page"], "there is no such file; name a Markdown page with a part for the tables"),
    ],
)
def test_bad_options_are_refused(capsys, arguments, says):
    assert says in fails(capsys, "bench", *arguments)
