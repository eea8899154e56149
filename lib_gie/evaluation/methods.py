"""Methods to leave a concept out of images: growth inhibitors and the others that they are compared with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib_gie.core.composition import Trace
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.rules import RULES, erasing_rule
from lib_gie.core.scales.adapter import Adapter, load_adapter
from lib_gie.core.scales.calibrated import CALIBRATED, Calibration
from lib_gie.core.scales.fitted import Fitted
from lib_gie.core.scales.scale_rules import FixedScale, ScaleRule
from lib_gie.errors import OptionError
from lib_gie.hosts.diffusers import GrowthInhibitors
from lib_gie.json_lines import identity_digest
from lib_gie.options import CONCEPT_PASSES, ErasureSettings

from .calibrations import WithRamps, calibrations
from .generate import USUAL, Job, Make, Sampling, concepts_in, generate, plain
from .long_prompts import chunk_count, own_tokens, states_of

_NUMBERS = tuple(field.name for field in dataclasses.fields(ErasureSettings) if field.type == "float")
"""Settings that a method's name can give."""

IMPLIED = "implied prompts given"
"""After "calibrated": it was given the implied prompts of the train split."""

_RAMP = "full at"
"""After "calibrated": the share of the way from absent to named from which a concept is present in full."""

_JOINT = r"(?:\s+(?:and|with|next to)|\s*,)"


def _without_word(prompt: str, concept: str) -> str:
    noun = rf"(?:\ban?\s+|\bthe\s+)?\b{re.escape(concept)}\b"
    pattern = rf"{_JOINT}\s+{noun}|{noun}(?:\s+of|{_JOINT})\s+|{noun}"
    return " ".join(re.sub(pattern, " ", prompt, flags=re.IGNORECASE).split())


def without_words(prompt: str, concepts: Iterable[str]) -> str:
    """Return the prompt without the concepts' words, their articles and the joints that held them.

    Of a style that is also its "of" ("a pencil sketch of a cat") or its comma ("a cat, pencil sketch").
    """
    for concept in concepts:
        prompt = _without_word(prompt, concept)
    return prompt


def negative_prompt(pipe: Any, sampling: Sampling = USUAL) -> Make:
    """Return the method that takes the text of the concepts as the negative prompt."""
    return lambda prompts, seeds, concept: generate(
        pipe, prompts, seeds, sampling, negative_prompt=[concept] * len(prompts)
    )


def word_removed(pipe: Any, sampling: Sampling = USUAL) -> Make:
    """Return the method that takes the concepts' words out of the prompt. What is only implied is not changed."""

    def make(prompts, seeds, concept):
        return generate(pipe, [without_words(prompt, concepts_in(concept)) for prompt in prompts], seeds, sampling)

    return make


def erased(
    pipe: Any,
    rules: Mapping[str, ScaleRule] | ScaleRule,
    sampling: Sampling = USUAL,
    keep_composition: bool = False,
    **options: Any,
) -> Make:
    """Return this project's method. ``rules``: one for all concepts, or by concept.

    ``keep_composition``: keep that of the images without erasure. ``options``: others of GrowthInhibitors.
    """

    def make(prompts, seeds, concept):
        rule = {one: rules[one] for one in concepts_in(concept)} if isinstance(rules, Mapping) else rules
        trace = Trace() if keep_composition else None
        if keep_composition:
            with GrowthInhibitors(pipe, concept, scale=0.0, trace=trace):
                generate(pipe, prompts, seeds, sampling)
        with GrowthInhibitors(pipe, concept, adapter=rule, composition=trace, **options):
            return generate(pipe, prompts, seeds, sampling)

    return make


# -- negative tokens ------------------------------------------------


@contextmanager
def negated_values(unet: torch.nn.Module, first_row: int, count: int, strength: float) -> Iterator[None]:
    """Multiply the last ``count`` tokens' values, from this row on, by -strength in every layer within the context."""

    def turn(module, args, values):  # values [R, L, h*d]
        values[first_row:, -count:] *= -strength
        return values

    with ExitStack() as stack:
        for layer in find_cross_attention(unet):
            stack.callback(layer.to_v.register_forward_hook(turn).remove)
        yield


def negpip(pipe: Any, strength: float, *, sampling: Sampling = USUAL) -> Make:
    """Return NegPiP's method: the own tokens of the concepts' text join the prompt, their values times -strength."""

    def make(prompts, seeds, concept):
        own, chunks = len(own_tokens(pipe.tokenizer, concept)), chunk_count(pipe.tokenizer, prompts)
        states, empty = states_of(pipe, prompts, chunks), states_of(pipe, [""] * len(prompts), chunks)
        added = states_of(pipe, [concept], 1)[:, 1 : 1 + own].expand(len(prompts), -1, -1)  # [B, n, D]
        positive = torch.cat([states, added], 1)  # [B, 77 * chunks + n, D]
        padding = empty[:, -1:].expand(-1, own, -1)  # [B, n, D]
        negative = torch.cat([empty, padding], 1)  # [B, 77 * chunks + n, D]

        with negated_values(pipe.unet, len(prompts), own, strength):  # conditional rows come last
            return generate(pipe, None, seeds, sampling, prompt_embeds=positive, negative_prompt_embeds=negative)

    return make


# -- other guidance, by diffusers' own pipelines ------------------------------------------------


def _parts(pipe: Any) -> dict:
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    return {**{name: getattr(pipe, name) for name in names}, "safety_checker": None, "feature_extractor": None}


def sld(pipe: Any, level: str, sampling: Sampling = USUAL) -> Make:
    """Return Safe Latent Diffusion with the text of the concepts as the safety concept.

    ``level``: WEAK, MEDIUM, STRONG or MAX.
    Its warm-up is given in steps of 50; here it is the same share of the steps.
    """
    from diffusers.pipelines.deprecated.stable_diffusion_safe import SafetyConfig, StableDiffusionPipelineSafe

    config = dict(getattr(SafetyConfig, level))
    config["sld_warmup_steps"] = round(config["sld_warmup_steps"] * sampling.steps / 50)
    other = StableDiffusionPipelineSafe(**_parts(pipe), requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)

    def make(prompts, seeds, concept):
        other.safety_concept = concept
        return generate(other, prompts, seeds, sampling, **config)

    return make


def sega(pipe: Any, scale: float, threshold: float, *, sampling: Sampling = USUAL) -> Make:
    """Return Semantic Guidance away from every concept."""
    from diffusers.pipelines.deprecated.semantic_stable_diffusion import SemanticStableDiffusionPipeline

    other = SemanticStableDiffusionPipeline(**_parts(pipe), requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)

    def make(prompts, seeds, concept):
        away = list(concepts_in(concept))
        count = len(away)
        return generate(
            other, prompts, seeds, sampling, editing_prompt=away, reverse_editing_direction=[True] * count,
            edit_guidance_scale=[scale] * count, edit_threshold=[threshold] * count,
            edit_warmup_steps=[round(0.2 * sampling.steps)] * count,
        )  # fmt: skip

    return make


# -- methods by name, as tables and the command name them ------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One method by its name.

    ``covers``: tells the jobs that it is measured on. ``same``: tells those that it does not change. ``rules``: gives
    the adapters or calibrations that it uses for a job that it covers.
    """

    name: str
    make: Make
    covers: Callable[[Job], bool] = lambda job: True
    same: Callable[[Job], bool] = lambda job: False
    rules: Callable[[Job], Sequence[Fitted]] = lambda job: ()

    def identity(self, job: Job) -> str:
        """Return the key of its kept outcomes: its name, and a digest of the adapters' weights where there are some."""
        rules = self.rules(job)
        digest = identity_digest("".join(rule.weights_digest for rule in rules))
        return f"{self.name} {digest} guarded" if rules else self.name


class Unguarded:
    """An adapter whose answers count also for prompts outside its range."""

    def __init__(self, adapter: Adapter):
        self.readings, self.optional = adapter.readings, adapter.optional
        self.scales, self.check_model = adapter.scales, adapter.check_model


@dataclass(frozen=True)
class Shipped:
    """Adapter files: one for each concept, one for all things, and one that was not trained for some.

    ``single``: the files by concept. Some concepts may have none.
    """

    single: Mapping[str, Path]
    joint: Path
    unseen: Path


def _number(text: str, method: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(
            f"the method {method!r} lacks a number, or {text!r} is none; write one there, for example: strength 1.5"
        ) from error


def _numbers(text: str, count: int, method: str) -> list[float]:
    found = text.split()
    if len(found) != count:
        raise OptionError(f"the method {method!r} needs {count} numbers, not {text!r}")
    return [_number(value, method) for value in found]


def _names_concept(job: Job) -> bool:
    return without_words(job.prompt.text, job.concepts) != job.prompt.text


def _options(words: Sequence[str], method: str) -> dict[str, Any]:
    """Read a name's options: "separate", "value projection", "end 0.8", "padding 0.5", "composition 0.8 0.4"."""
    options: dict[str, Any] = {}
    for word in words:
        name, _, value = word.strip().partition(" ")
        if name in CONCEPT_PASSES:
            options["concept_pass"] = name
        elif word.strip() in RULES:
            options["rule"] = word.strip()
        elif word.strip() == IMPLIED or word.strip().startswith(_RAMP):
            continue  # they say how the calibrations are made
        elif name == "composition":
            options["keep_composition"] = True
            shares = _numbers(value, 2, method) if value else ()
            options |= dict(zip(("composition_cross", "composition_self"), shares, strict=False))
        elif name in _NUMBERS:
            options[name] = _number(value, method)
        else:
            raise OptionError(
                f"the method {method!r} has the unknown option {word.strip()!r}; known are: "
                f"{', '.join((*CONCEPT_PASSES, *RULES, *_NUMBERS))}"
            )
    return options


def _ours(pipe: Any, name: str, shipped: Shipped, sampling: Sampling) -> Method | None:
    """Return this project's method of a name, None for others.

    The name begins with a fixed scale, an adapter or an erasing rule (at its usual scale). Options follow after commas.
    """
    head, *words = name.split(",")
    options = {"sampling": sampling, **_options(words, name)}
    if head.startswith("fixed scale "):
        return Method(name, erased(pipe, FixedScale(_number(head.removeprefix("fixed scale "), name)), **options))
    if head in RULES:
        return Method(name, erased(pipe, FixedScale(erasing_rule(head).range.default), rule=head, **options))
    if head == CALIBRATED:
        return _by_concept(pipe, name, _calibrations(pipe, words, name), options)
    if head == "adapter":
        return _by_concept(pipe, name, _single_adapters(shipped), options)
    if head == "joint adapter":
        return _one_adapter(pipe, name, load_adapter(shipped.joint), options)
    if head == "unseen adapter":
        rule = load_adapter(shipped.unseen)
        make = erased(pipe, Unguarded(rule), **options)
        return Method(name, make, lambda job: not {*job.concepts} & {*rule.info.concepts}, rules=lambda job: (rule,))
    if head.startswith("adapter "):
        path = Path(head.removeprefix("adapter "))
        return _one_adapter(pipe, ",".join([f"adapter {path.stem}", *words]), load_adapter(path), options)
    return None


def _calibrations(pipe: Any, words: Sequence[str], method: str) -> Mapping[str, Calibration]:
    """Return the calibrations that a method with these options has."""
    given = [word.strip() for word in words]
    made = calibrations(pipe, IMPLIED in given)
    shares = [_number(word.removeprefix(_RAMP), method) for word in given if word.startswith(_RAMP)]
    if any(not 0 < share <= 1 for share in shares):
        raise OptionError(f"the method {method!r} has a share that is not over 0 and up to 1; write {_RAMP} 0.25")
    return WithRamps(made, shares[-1]) if shares else made


def _single_adapters(shipped: Shipped) -> dict[str, Adapter]:
    """Load the adapter of each concept that has a file. Raises OptionError where none has."""
    found = {concept: load_adapter(path) for concept, path in shipped.single.items() if path.is_file()}
    if not found:
        names = ", ".join(path.name for path in shipped.single.values())
        raise OptionError(f"no concept has an adapter; at least one of {names} is needed: train one, or get the files")
    return found


def _by_concept(pipe: Any, name: str, rules: Mapping[str, Any], options: Mapping[str, Any]) -> Method:
    """Return the method that has an adapter or a calibration for each concept; it covers what these are enough for."""
    return Method(
        name,
        erased(pipe, rules, **options),
        covers=lambda job: {*job.concepts} <= rules.keys(),
        rules=lambda job: [rules[concept] for concept in job.concepts],
    )


def _one_adapter(pipe: Any, name: str, rule: Adapter, options: Mapping[str, Any]) -> Method:
    """Return the method that has one adapter for all of its concepts; it covers what that was trained for."""
    return Method(
        name,
        erased(pipe, rule, **options),
        covers=lambda job: {*job.concepts} <= {*rule.info.concepts},
        rules=lambda job: (rule,),
    )


def method(pipe: Any, name: str, shipped: Shipped, sampling: Sampling = USUAL) -> Method:
    """Return the method that a name such as "sld max" or "adapter, end 0.8" means. Raises OptionError for others."""
    head, _, rest = name.partition(" ")

    def is_short(job: Job) -> bool:
        return chunk_count(pipe.tokenizer, [job.prompt.text]) == 1  # diffusers' own pipelines cut longer ones off

    if name == "none":
        return Method(name, plain(pipe, sampling), same=lambda job: True)
    if name == "negative prompt":
        return Method(name, negative_prompt(pipe, sampling))
    if name == "word removed":
        return Method(name, word_removed(pipe, sampling), same=lambda job: not _names_concept(job))
    if head == "negpip":
        return Method(name, negpip(pipe, *_numbers(rest, 1, name), sampling=sampling))
    if head == "sld" and rest.upper() in ("WEAK", "MEDIUM", "STRONG", "MAX"):
        return Method(name, sld(pipe, rest.upper(), sampling), covers=is_short)
    if head == "sega":
        return Method(name, sega(pipe, *_numbers(rest, 2, name), sampling=sampling), covers=is_short)
    found = _ours(pipe, name, shipped, sampling)
    if found is None:
        raise OptionError(
            f"there is no method {name!r}; there are: none, negative prompt, word removed, negpip STRENGTH, sld "
            f"weak|medium|strong|max, sega SCALE THRESHOLD, fixed scale W, adapter, joint adapter, unseen adapter, "
            f"adapter FILE, calibrated, value projection; the last seven take ', separate', ', value projection', "
            f"', end 0.8', ', strength 1.5', ', padding 0.5', ', composition' and ', composition 0.8 0.4'; calibrated "
            f"takes ', {IMPLIED}' and ', {_RAMP} 0.25' as well"
        )
    return found
