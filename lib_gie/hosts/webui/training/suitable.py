"""What suits the model that is loaded now."""

from __future__ import annotations

from modules import sd_samplers

from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.host.model import loaded_model
from lib_gie.training.judges import DEFAULT_JUDGE, available_judges, judge_class, usual_judge
from lib_gie.training.prompts import starter_list_for

from .trainable import trainable_family


def family_now() -> str | None:
    """Return the family of the loaded model; None where none is loaded, or adapters cannot be trained on it."""
    model = loaded_model()
    try:
        return None if model is None else trainable_family(model)
    except GieError:
        return None


def suitable_list(concept: str) -> str:
    """Return the name of the starter list for a concept on the loaded model."""
    if family_now() != FAMILY:
        return starter_list_for(concept)
    from lib_gie.demo.words import is_style  # loads the drawings

    return starter_list_for(concept, is_demo=True, is_style=is_style(concept))


def suitable_judge(concept: str) -> str:
    """Return the judge that is usual for a concept on the loaded model, and knows it."""
    base = family_now()
    if base is not None:
        try:
            name = usual_judge(base, concept)
            judge_class(name).check(base, concept)
            return name
        except OptionError:  # the model's own judge does not know this concept
            pass
    return usual_judge(concept)


def is_usual(judge: object) -> bool:
    """Tell whether a judge is one that is taken where nobody chooses."""
    return judge == DEFAULT_JUDGE or (judge in available_judges() and bool(judge_class(str(judge)).usual_for))


def samplers() -> list[str]:
    """Return the names of the WebUI's samplers."""
    return [sampler.name for sampler in sd_samplers.visible_samplers()]
