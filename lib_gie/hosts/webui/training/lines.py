"""What each of the tab's steps says of its fields, as HTML. It costs no work: it is asked at every change."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib_gie.core.concepts import Concept
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import GieError
from lib_gie.hosts.webui.host.model import loaded_model
from lib_gie.hosts.webui.request.plans import automatic_text
from lib_gie.training.judges import available_judges, judge_class
from lib_gie.training.prompts import KINDS, bare, parse_prompts, without_syntax
from lib_gie.training.prompts.doubts import doubts

from .adapter_file import allowed_path
from .estimate import estimate_text
from .pace import Setting
from .suitable import family_now, samplers, suitable_judge, suitable_list
from .trainable import trainable_family
from .trainer import judge_settings, trainer
from .usual import usual_sampling
from .work_order import WorkOrder, named_values, read_field

WHAT, HOW, GO = range(3)
_STEPS = {"concept": WHAT, "prompts": WHAT, "name": GO, "replace": GO}
"""By field the step where it is. All others are in HOW."""


def error_html(error: GieError) -> str:
    """Return an error as the page shows it."""
    return f"<span class='gie-error'>{html.escape(str(error))}</span>"


def step_lines(*values: Any) -> list[str]:
    """Return what the three steps say. ``values``: in the order of WorkOrder's fields."""
    try:
        fields = _Fields.read(values)
    except GieError as error:
        return [error_html(error), "", ""]
    lines = ["", "", ""]
    for number, say in enumerate((_of_what, _of_how, _of_go)):
        try:
            lines[number] = say(fields)
        except GieError as error:
            lines[number] = error_html(error)
    return lines


@dataclass(frozen=True)
class _Fields:
    """The fields as they are. ``errors``: by step what is wrong with one of its fields; ``order``: where none is."""

    given: dict[str, Any]
    errors: dict[int, GieError]
    order: WorkOrder | None

    @classmethod
    def read(cls, values: Sequence[Any]) -> _Fields:
        given = named_values(values)
        errors: dict[int, GieError] = {}
        choices = samplers(), available_judges()
        for name, value in given.items():
            try:
                given[name] = read_field(name, value, *choices)
            except GieError as error:
                errors.setdefault(_STEPS.get(name, HOW), error)
        return cls(given, errors, None if errors else WorkOrder(**given))

    def check(self, step: int) -> None:
        """Raise what is wrong with a step's fields."""
        if step in self.errors:
            raise self.errors[step]

    @property
    def concept(self) -> str:
        """The concept without weight and quotes, "" where there is none. Raises GieError where it cannot be read."""
        self.check(WHAT)
        return bare(self.given["concept"]) if self.given["concept"].strip() else ""

    @property
    def is_what_well(self) -> bool:
        """Whether there is a concept, and prompts that can be trained on."""
        try:
            return bool(self.concept) and (self.order is None or bool(self.order.samples()))
        except GieError:  # the first step says what is wrong
            return False


def _of_what(fields: _Fields) -> str:
    concept = fields.concept
    if not concept:
        return "Name what is to be erased, for example: knife. Or press one of the buttons."
    listed = parse_prompts(fields.given["prompts"], concept)
    trained = listed if fields.order is None else _trained_on(fields.order)
    kinds = Counter(kind for _, kind in trained)
    counted = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
    parts = [f"{len(trained)} prompts for {html.escape(concept)}: {counted}."]
    if not kinds["implicit"]:
        parts.append(" None implies it; add some under [implicit], or the adapter knows such prompts less well.")
    if len(trained) < len(listed):
        parts.append(f" The list has {len(listed)}, but Advanced takes at most {fields.given['count']} per section.")
    found = doubts(trained, concept) + _unknown_words(concept, without_syntax(trained))
    parts += [f"<br><span class='gie-doubt'>{html.escape(text)}</span>" for text in found]
    return "".join(parts)


def _unknown_words(concept: str, prompts: Sequence[str]) -> list[str]:
    """Return what is to be said where the demo model is loaded and does not know a concept's or the prompts' words."""
    if family_now() != FAMILY:
        return []
    from lib_gie.demo.words import unknown_in_prompts_message, unknown_words_message  # loads the drawings

    message = unknown_words_message(concept, "concept", with_known=False)
    if message:
        return [f"{message[0].upper()}{message[1:]}, so nothing of it can be learnt."]
    of_prompts = unknown_in_prompts_message(prompts, concept, suitable_list(concept))
    return [of_prompts] if of_prompts else []


def _trained_on(order: WorkOrder) -> list[tuple[str, str]]:
    """Return the prompts that a training takes, and their kinds. Raises what the training would end with."""
    return list(dict.fromkeys((sample.prompt, sample.kind) for sample in order.samples()))


def _of_how(fields: _Fields) -> str:
    fields.check(HOW)
    name, model = fields.given["judge"], loaded_model()
    parts = [f"{name}: {html.escape(judge_class(name).summary)}."]
    if model is None:
        return f"{parts[0]} No checkpoint is loaded yet; load the one that the adapter is to be for."
    base = trainable_family(model)
    checkpoint = html.escape(str(model.sd_checkpoint_info.name_for_extra))
    parts.append(f"The images are made with {checkpoint}, which is loaded.")
    if fields.is_what_well:
        concept = fields.concept
        judge_class(name).check(base, concept, **judge_settings(name))
        if (usual := suitable_judge(concept)) != name:
            parts.append(
                f"For {html.escape(concept)} the judge {usual} is usual here; choose it if you have no reason not to."
            )
    side, width, height = usual_sampling(base)["side"], fields.given["width"], fields.given["height"]
    if side != max(width, height):
        text = f"Its images are usually {side}x{side}, not {width}x{height}; see Advanced."
        parts.append(f"<br><span class='gie-doubt'>{text}</span>")
    return " ".join(parts)


def _of_go(fields: _Fields) -> str:
    """Return how long it takes; nothing while another step has to be mended first."""
    fields.check(GO)
    order = fields.order
    if order is None or not fields.is_what_well:
        return ""
    if not order.replace and trainer.trained == order:
        return f"{html.escape(order.stem)} is trained. To train it again, tick Replace or give another name."
    path, model = allowed_path(order), loaded_model()
    seconds = None
    if model is not None:
        seconds = trainer.paces.of(Setting(model.sd_checkpoint_info.name_for_extra, order.width, order.height))
    replaced = f" <b>{html.escape(path.stem)} is replaced.</b>" if path.exists() else ""
    taken = f" {html.escape(automatic_text([Concept(order.bare_concept)], model))}" if model else ""
    return f"{html.escape(estimate_text(order, seconds))}{replaced}{taken}"
