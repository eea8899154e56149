"""Calibrates one concept on one checkpoint, from texts and at most MOST_EVALUATIONS evaluations of its UNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import check_length, check_token_count
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo
from lib_gie.options import DEFAULT_SCALE
from lib_gie.training.image_maker import Calibrator
from lib_gie.training.prompts.reference import NAMING, implied_prompts, neutral_prompts

from .counted import Counted, OnProgress
from .presence import FULL_AT, QUANTILE, NeutralReadings, find_presence, readings_at
from .strength import Agreement, Samplings, find_strength


def calibrate(
    maker: Calibrator,
    concept: str,
    weights: str,
    *,
    implied: Sequence[str] = (),
    unchecked: float = DEFAULT_SCALE,
    folder: Path | None = None,
    on_progress: OnProgress = lambda done, expected: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Calibration:
    """Return the calibration of a concept, its bare text, on the checkpoint of an image maker.

    ``weights``: the checkpoint's digest. ``implied``: prompts that imply the concept, if some are known; MOST_IMPLIED
    of a longer list are read. ``unchecked``: the fixed scale of the model family, than which the strength is never
    weaker unless the concept was seen to be gone. ``folder``: keeps what was read of neutral prompts, which serves
    every concept and an interrupted calibration's next try; None keeps nothing. ``on_progress``: is told of evaluations
    that are done, and of how many are expected; the latter may change. ``should_stop``: is asked between batches.

    The same arguments give the same calibration, with or without readings that were kept. What users are to be told
    of it is in ``CalibrationInfo.warning``.

    Raises ConceptError for a concept that cannot be encoded, CalibrationStoppedError where it was stopped,
    ErasureError where the model predicts numbers that are not finite.
    """
    concept = _checked(maker, concept)
    implied = implied_prompts(implied)
    size, conditions = maker.latent_size, maker.conditions
    readings = readings_at(size)
    identity = f"{weights} {maker.base} clip skip {conditions.get('clip_skip')}"
    neutral = NeutralReadings(neutral_prompts(maker.base), readings, identity, folder)
    of_texts = neutral.evaluations + (NAMING + len(implied)) * len(readings)
    expected = of_texts + Agreement.evaluations + 3 * Samplings.evaluations
    counted = Counted(maker, expected, on_progress, should_stop)
    presence = find_presence(counted, concept, neutral, readings, implied)
    strength = find_strength(counted, concept, size, conditions["cfg"])
    scale = strength.scale if strength.is_gone else min(strength.scale, unchecked)
    counted.finish()
    info = CalibrationInfo(
        maker.base, weights, (concept,), readings, len(presence.discriminant.mean), round(scale, 4),
        presence.ramp, presence.tells_presence, conditions=dict(conditions),
        training={
            "evaluations": counted.done + counted.spared, "neutral_prompts": len(neutral.prompts),
            "implied_prompts": len(implied), "quantile": QUANTILE, "full_at": FULL_AT,
            "cancels_at": round(strength.cancels, 4), "shows": strength.shows, "seen_gone": strength.is_gone,
            "images_from": maker.description,
        },
    )  # fmt: skip
    return Calibration(info, presence.discriminant, presence.range)


def _checked(maker: Calibrator, concept: str) -> str:
    """Return the concept's text, its white space folded. Raises ConceptError before any work is done for it."""
    text = Concept(concept).text
    check_length(text)
    check_token_count(text, len(maker.tokens(text)))
    return text
