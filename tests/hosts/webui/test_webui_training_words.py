"""What the training tab says of time and progress, in words: durations, estimates, stages, kept paces."""

from __future__ import annotations

import dataclasses
import time

import pytest
from test_webui_work_order import ORDER

from lib_gie.hosts.webui.training.estimate import estimate_text
from lib_gie.hosts.webui.training.pace import ASSUMED, Paces, Setting
from lib_gie.hosts.webui.training.progress import PARTS, Progress, Stage
from lib_gie.hosts.webui.training.report import use_text
from lib_gie.hosts.webui.training.status import stage_text, status_html
from lib_gie.hosts.webui.training.work_order import amount
from lib_gie.training.durations import duration, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "less than a second"), (1, "1 second"), (59.4, "59 seconds"), (59.6, "1 minute"), (90, "2 minutes"),
     (3600, "1 hour"), (3900, "1 hour 5 minutes"), (7261, "2 hours 1 minute")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(180, 3000, "3 to 50 minutes"), (60, 120, "1 to 2 minutes"), (20, 120, "20 seconds to 2 minutes"),
     (0.2, 0.4, "less than a second"), (0.2, 4, "up to 4 seconds"),
     (600, 610, "10 minutes"), (600, 4000, "10 minutes to 1 hour 7 minutes"), (3600, 7200, "1 to 2 hours"),
     (3900, 7800, "1 hour 5 minutes to 2 hours 10 minutes")],
)  # fmt: skip
def test_ranges_of_durations(low, high, text):
    assert span(low, high) == text


# -- estimates ------------------------------------------------


def test_an_estimate_says_what_it_rests_on():
    work = amount(ORDER)
    measured = estimate_text(ORDER, 0.25)
    assert measured.startswith(
        f"Time: {work.time_text(0.25)}. Images to make: {work.images_text}. The time is by 0.25 s"
    )
    assert "as measured here" in measured
    assumed = estimate_text(ORDER, None)
    assert assumed.startswith(
        f"Time: {work.time_text(1 / ASSUMED)}. Images to make: {work.images_text}. The time is that"
    )
    assert "is not measured yet" in assumed


@pytest.mark.parametrize(
    ("judge", "says"), [("hand", "you take for your answers"), ("vision", "vision model takes"), ("detector", "")]
)
def test_an_estimate_leaves_out_what_a_person_or_a_service_takes(judge, says):
    text = estimate_text(dataclasses.replace(ORDER, judge=judge), 0.25)
    assert says in text
    assert ("is added" in text) == bool(says)


SETTING = Setting("some checkpoint", 64, 64)


def test_a_pace_is_kept(tmp_path):
    file = tmp_path / "labels" / "paces.jsonl"
    paces = Paces(file)
    assert paces.of(SETTING) is None
    paces.note(SETTING, 200, 10.0)
    paces.note(SETTING, 100, 10.0)
    paces.note(SETTING._replace(width=128), 100, 30.0)
    for found in (paces, Paces(file)):
        assert found.of(SETTING) == 0.1
        assert found.of(SETTING._replace(width=128)) == 0.3
        assert found.of(SETTING._replace(checkpoint="another")) is None


def test_no_work_tells_no_pace(tmp_path):
    paces = Paces(tmp_path / "paces.jsonl")
    paces.note(SETTING, 0, 10.0)
    paces.note(SETTING, 10, 0.0)
    assert paces.of(SETTING) is None


def test_a_file_that_is_damaged_or_cannot_be_kept_tells_no_pace(tmp_path):
    damaged = tmp_path / "paces.jsonl"
    damaged.write_text("\n".join(["[1]", "{", '{"width": 1}', "null", ""]), encoding="utf-8")
    assert Paces(damaged).of(SETTING) is None
    no_folder = Paces(damaged / "paces.jsonl")
    no_folder.note(SETTING, 10, 1.0)
    assert no_folder.of(SETTING) is None


@pytest.mark.parametrize(
    ("seconds", "known"),
    [("1e308", False), ("1e-320", False), ("-1", False), ("0", False), ("NaN", False), ("Infinity", False),
     ("1" * 400, False), ('"much"', False), ("1.1e4", False), ("9e-7", False), ("1e4", True), ("1e-6", True)],
)  # fmt: skip
def test_a_time_that_cannot_be_is_no_pace(tmp_path, seconds, known):
    file = tmp_path / "paces.jsonl"
    entry = f'{{"checkpoint": "some checkpoint", "width": 64, "height": 64, "seconds": {seconds}}}\n'
    file.write_text(entry, encoding="utf-8")
    assert Paces(file).of(SETTING) == (float(seconds) if known else None)
    assert estimate_text(ORDER, Paces(file).of(SETTING)).startswith("Time: ")


@pytest.mark.parametrize("seconds", [1e308, float("inf"), float("nan"), 1e-320, -1.0])
def test_a_time_that_cannot_be_is_not_kept(tmp_path, seconds):
    paces = Paces(tmp_path / "paces.jsonl")
    paces.note(SETTING, 1, seconds)
    assert paces.of(SETTING) is None


# -- progress ------------------------------------------------


def stage(done: int, total: int, seconds: float, found: int = 0, most: int = 0, unit: str = "labels") -> Stage:
    return Stage("labelling, round 2", unit, total, done, found, most, time.monotonic() - seconds)


def test_progress_has_the_time_left():
    assert (
        stage_text(stage(120, 628, 180))
        == "Labelling, round 2. Labels: 120 of 628, about 13 minutes left in this part."
    )
    assert stage_text(stage(1120, 1628, 180, 1000)) == (
        "Labelling, round 2. Labels: 1,120 of 1,628, about 13 minutes left in this part."
    )


def test_time_is_told_once_the_pace_is_known():
    assert stage_text(stage(0, 628, 180)) == "Labelling, round 2. Labels: 0 of 628."
    assert stage_text(stage(20, 628, 180)) == "Labelling, round 2. Labels: 20 of 628."
    assert stage_text(stage(300, 628, 180, 300)) == "Labelling, round 2. Labels: 300 of 628."
    assert stage_text(stage(628, 628, 180)) == "Labelling, round 2. Labels: 628 of 628."
    assert stage_text(stage(120, 628, 180), with_time=False) == "Labelling, round 2. Labels: 120 of 628."


def test_where_rounds_may_follow_both_times_are_told():
    assert stage_text(stage(24, 48, 120, most=480)) == (
        "Labelling, round 2. Labels: 24 of 48, about 2 minutes left in this round and at most 38 minutes in all."
    )


def test_a_stage_says_which_part_of_all_it_is():
    labelling = dataclasses.replace(stage(120, 628, 180), part="labels")
    assert stage_text(labelling).startswith("Part 3 of 4: labelling, round 2. Labels: 120 of 628, about")
    assert stage_text(Stage("drawing the report", part="fit")) == "Part 4 of 4: drawing the report."
    without = Progress("running", stage=labelling, parts=PARTS[1:])
    assert "Part 2 of 3: labelling" in status_html(without, stopping=False)


def test_a_stage_without_a_count():
    assert stage_text(Stage("drawing the report")) == "Drawing the report."


def test_a_running_training_has_a_bar_that_screen_readers_know():
    shown = status_html(Progress("running", stage=stage(120, 480, 180)), stopping=False)
    assert "role='progressbar'" in shown
    assert "aria-valuenow='25'" in shown
    assert "gie-running" in shown
    assert "stops after this batch" in status_html(Progress("running"), stopping=True)


@pytest.mark.parametrize("state", ["idle", "warned", "stopped", "failed", "done"])
def test_what_has_ended_is_not_asked_for_again(state):
    shown = status_html(Progress(state, "<b>text", "<i>verdict"), stopping=False)
    assert "gie-running" not in shown
    assert "&lt;b&gt;text" in shown
    assert ("gie-error" in shown) == (state in ("warned", "failed"))
    assert shown.startswith("<p class='gie-verdict'>&lt;i&gt;verdict</p>") == (state == "done")


def test_a_question_stands_in_the_status():
    shown = status_html(Progress("asking", "click on <one>", stage=stage(2, 4, 500)), stopping=False)
    assert "click on &lt;one&gt;" in shown
    assert "Labels: 2 of 4." in shown


@pytest.mark.parametrize(
    ("name", "concept", "automatic", "typed"),
    [
        ("guitar", "guitar", "Now Automatic takes for guitar the adapter guitar.", "guitar under Concepts to erase."),
        ("mine", "a: b", "Now Automatic takes for a: b the adapter other.",
         '"a: b" under Concepts to erase, and choose mine under Adapter.'),
        ("mine", "cat", "", "cat under Concepts to erase, and choose mine under Adapter."),
    ],
)  # fmt: skip
def test_how_to_use_what_was_trained(name, concept, automatic, typed):
    said = f" {automatic}" if automatic else ""
    assert use_text(name, concept, automatic) == f"{said} To try it, open txt2img and type {typed}"
