"""Growth inhibitors for Stable Diffusion pipelines of diffusers, as a context manager."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_gie.checks import quoted
from lib_gie.core.composition import Trace
from lib_gie.core.concepts import Concept, parse_concepts
from lib_gie.core.erasure import check_adapter
from lib_gie.core.rules import erasing_rule
from lib_gie.core.scales.adapter import Adapter
from lib_gie.core.scales.calibrated import CALIBRATED, Calibration
from lib_gie.core.scales.kept import load_fitted
from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule, guarded
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import ConceptError, OptionError
from lib_gie.options import CROSS_SHARE, SELF_SHARE, ErasureSettings

from .calibrating import calibration_of
from .erased_pipeline import ErasedPipeline, check_pipeline
from .weights import identities

OneRule = ScaleRule | Path | str
"""A rule for a scale, or the file of an adapter or a calibration."""

Rules = OneRule | Sequence[OneRule] | Mapping[str, OneRule]
"""One for all concepts, one for each in their order, or one by each concept's text."""


def scale_rule(scale: float | None, adapter: OneRule | None, rule: str = ErasureSettings.rule) -> ScaleRule:
    """Make the rule for a fixed scale, an adapter (its file, or any ScaleRule), or neither: the erasing rule's usual.

    An adapter is guarded: where it cannot know, w is at least its model family's fixed scale (see ``Guarded``), and
    with a calibration at least the strength that was found. Raises OptionError where both are given, and for an adapter
    where the erasing rule ``rule`` takes none.
    """
    _refuse_both(scale, adapter)
    if adapter is None:
        return FixedScale(erasing_rule(rule).range.default if scale is None else scale)
    found = load_fitted(adapter) if isinstance(adapter, (Path, str)) else adapter
    if isinstance(found, (Adapter, Calibration)):
        found = guarded(found, default_scale(found.info.base))
    check_adapter(found, rule)
    return found


def _refuse_both(scale: object, adapter: object) -> None:
    if scale is not None and adapter is not None:
        raise OptionError("both a scale and an adapter are given; give one of them, or strength to vary an adapter")


def scale_rules(
    pipe: Any,
    concepts: Sequence[Concept],
    scale: float | str | None,
    adapter: Rules | None,
    rule: str = ErasureSettings.rule,
) -> tuple[ScaleRule, ...]:
    """Return a rule for each concept, see ``GrowthInhibitors``. Concepts that are not calibrated yet are now.

    Raises what ``scale_rule`` does, and OptionError where there are other rules than concepts.
    """
    _refuse_both(scale, adapter)
    if isinstance(scale, str):
        if scale != CALIBRATED:
            raise OptionError(f"scale is {quoted(scale)}; it must be a number, or {CALIBRATED!r}")
        _check_takes_calibrations(rule)
        return tuple(scale_rule(None, calibration_of(pipe, concept)) for concept in concepts)
    return tuple(scale_rule(scale, one, rule) for one in _one_each(concepts, adapter))


def _check_takes_calibrations(rule: str) -> None:
    if not erasing_rule(rule).takes_adapters:
        raise OptionError(
            f"scale is {CALIBRATED!r} and rule is {rule!r}: calibrations are made for growth inhibitors; give a fixed "
            f"scale, or take that rule"
        )


def _one_each(concepts: Sequence[Concept], given: Rules | None) -> list[OneRule | None]:
    """Return what is given for each concept. Raises OptionError where it is not one for each."""
    if isinstance(given, Mapping):
        by_key = {Concept(text).key: one for text, one in given.items()}
        if len(by_key) != len(given) or by_key.keys() != {concept.key for concept in concepts}:
            named = (", ".join(map(repr, texts)) for texts in (given, [concept.text for concept in concepts]))
            raise OptionError("adapter has rules for {}, and the concepts are {}; give one for each".format(*named))
        return [by_key[concept.key] for concept in concepts]
    if isinstance(given, Sequence) and not isinstance(given, str):
        if len(given) != len(concepts):
            raise OptionError(f"adapter has {len(given)} rules for {len(concepts)} concepts; give one for each")
        return list(given)
    return [given] * len(concepts)


def read_concepts(given: str | Sequence[Concept]) -> tuple[Concept, ...]:
    """Return the concepts that are given as a text or as objects. Raises ConceptError for anything else."""
    if isinstance(given, str):
        return parse_concepts(given)
    found = tuple(given) if isinstance(given, Iterable) else ()
    if not found or not all(isinstance(concept, Concept) for concept in found):
        raise ConceptError(
            f"the concepts are {quoted(given)}; they must be a text such as 'knife, wine:0.5', or a sequence of at "
            f"least one Concept"
        )
    return found


def _foreign(pipe: Any, rules: Sequence[ScaleRule]) -> list[str]:
    """Say which calibrations were made on other weights than a pipeline has."""
    fitted = [rule.adapter for rule in rules if isinstance(rule, Guarded)]
    made = [one for one in fitted if isinstance(one, Calibration)]
    own = identities(pipe) if made else ()
    return [
        f"the calibration for {', '.join(one.info.concepts)} was made on the weights {one.info.weights}, and this "
        f"pipeline's are {' or '.join(own)}; calibrate it again"
        for one in made
        if one.info.weights not in own
    ]


class GrowthInhibitors(ErasedPipeline):
    """A context in which every call of a Stable Diffusion pipeline erases the concepts from its images.

    ``pipe``: a pipeline of one of the classes in ``classes.LAYOUTS``, or of one that inherits from them.
    ``concepts``: a text such as ``knife, wine:0.5`` or a sequence of Concept. ``scale``: the same w for all (-20 to 0),
    or "calibrated": each concept's calibration on this pipeline's weights. One that is not calibrated yet is now, which
    takes up to 1,000 UNet evaluations, and is kept in ``assets.calibrations_folder``. ``adapter``: an Adapter, a
    Calibration, the file of either, or another ScaleRule; or one for each concept, as a sequence in their order or a
    mapping from their texts. ``strength``, ``start``, ``end``, ``concept_pass``, ``padding``, ``rule`` (the erasing
    rule): see ErasureSettings. Start and end are fractions of the steps that the call makes itself (img2img's strength,
    SDXL's ``denoising_end``).
    ``record``: also collect where the concepts' attention is, in ``recorder`` (one per pipeline call).
    ``trace``: write down what the images are made from (with ``strength=0``: those without erasure). ``composition``:
    such a trace, of the same call with the same seeds, whose composition the images keep. ``composition_cross``,
    ``composition_self``: for which fractions of the steps, see Composition.

    After a call, ``scales`` holds the resolved w: one tuple per image, in it per concept a float32 [n] tensor.

    Raises ConceptError, OptionError or AdapterError for bad arguments, UnsupportedModelError for other pipelines, and
    from within the pipeline's call ErasureError where the concept cannot be erased.
    """

    def __init__(
        self,
        pipe: Any,
        concepts: str | Sequence[Concept],
        *,
        scale: float | str | None = None,
        adapter: Rules | None = None,
        strength: float = ErasureSettings.strength,
        start: float = ErasureSettings.start,
        end: float = ErasureSettings.end,
        concept_pass: str = ErasureSettings.concept_pass,
        padding: float = ErasureSettings.padding,
        rule: str = ErasureSettings.rule,
        record: bool = False,
        trace: Trace | None = None,
        composition: Trace | None = None,
        composition_cross: float = CROSS_SHARE,
        composition_self: float = SELF_SHARE,
    ):
        check_pipeline(pipe, ())
        found = read_concepts(concepts)
        check_pipeline(pipe, found)
        settings = ErasureSettings(strength, start, end, concept_pass, padding, rule)
        rules = scale_rules(pipe, found, scale, adapter, settings.rule)
        super().__init__(
            pipe, found, rules, settings, record=record, trace=trace, composition=composition,
            composition_cross=composition_cross, composition_self=composition_self,
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """What a user should know of the rules and the last call: where an answer was not enough, and why."""
        return _foreign(self.pipe, self.rules) + super().notes
