"""The benchmark: what it counts, what it prints, and that each way runs on a real UNet."""

from __future__ import annotations

import json

import pytest
import torch
from test_cli import fails, main

from lib_gie.cli.pages import END, begin
from lib_gie.evaluation.bench import growth, layer_ways, speed
from lib_gie.evaluation.bench.labelling_speed import Pace
from lib_gie.evaluation.bench.speed import Ratio, Sampler, Setting, ratios


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


@pytest.mark.parametrize("name", list(speed.VARIANTS))
def test_each_way_runs_and_leaves_nothing_behind(sampler, name):
    plain = sampler.sample(sampler.guided)
    speed.VARIANTS[name](sampler)
    assert len(sampler.seconds) == 2
    assert torch.equal(sampler.sample(sampler.guided), plain)


def test_ways_are_measured_in_turn(sampler):
    order = []
    variants = {name: lambda s, name=name: (order.append(name), speed.stock(s)) for name in "ab"}
    times = speed.alternate(sampler, variants, 2, "test")
    assert order == ["a", "b"] * 3  # the first of them does not count
    assert [len(rounds) for rounds in times.values()] == [2, 2]


def test_command_prints_one_object_per_way(capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{begin('bench --size demo')}\n{END}\n", encoding="utf-8")
    options = ["--rounds", "1", "--steps", "2", "--no-memory", "--json", "--page", str(page)]
    assert main(["bench", "--variants", "fused 1", "separate", *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == ["stock", "fused 1", "separate"]
    assert {"size", "ratio", "ratio_min", "ratio_max", "memory_ratio", "once"} <= set(rows[0])
    assert rows[0]["ratio"] == 1
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in rows)
    assert "| separate |" in page.read_text(encoding="utf-8")


def test_memory_is_measured_in_a_process_of_its_own():
    found = speed.peaks(Setting("demo", 64), ["stock"], torch.device("cpu"))["stock"]
    assert len(found) in (0, speed.PEAK_RUNS)
    assert all(peak > 100 * 2**20 for peak in found)


def test_a_measuring_process_that_fails_is_no_figure():
    with pytest.raises(speed.MeasuringError, match=r"the memory of 'stock' ended with 1 .*use --no-memory"):
        speed.peak_memory(Setting("no such size", 64, steps=2), "stock", torch.device("cpu"))


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
        (["--pixels", "100"], "--pixels has 100; sides must be multiples of 64"),
        (["--variants", "fast"], "--variants has fast; there are: stock, fused 1"),
        (["--page", "no such page"], "bench --size demo -->' and"),
    ],
)
def test_bad_options_are_refused(capsys, arguments, says):
    assert says in fails(capsys, "bench", *arguments)
