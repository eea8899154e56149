"""What suits the model that is loaded now."""

from __future__ import annotations

from modules import sd_samplers

from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.host.model import loaded_model
from lib_gie.training.judges import judge_class, usual_judge

from .trainable import trainable_family


def family_now() -> str | None:
    """Return the family of the loaded model; None where none is loaded, or adapters cannot be trained on it."""
    model = loaded_model()
    try:
        return None if model is None else trainable_family(model)
    except GieError:
        return None


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


def samplers() -> list[str]:
    """Return the names of the WebUI's samplers."""
    return [sampler.name for sampler in sd_samplers.visible_samplers()]
