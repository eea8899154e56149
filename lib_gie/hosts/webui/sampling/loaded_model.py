"""The loaded checkpoint as a sampling host, and what its encodings and scales depend on."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

import torch
from modules import shared

from lib_gie.core.call import Size
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.kept_answers import KeptAnswers
from lib_gie.hosts.webui.host.contract import Processing
from lib_gie.hosts.webui.host.kept_encodings import KEPT
from lib_gie.hosts.webui.host.model import find_unet, unet_of
from lib_gie.hosts.webui.host.other_extensions import undisturbed
from lib_gie.hosts.webui.host.pictures import TextCalls


class LoadedModel:
    """Whatever model samples now for ``p``: see ``SamplingHost``."""

    def __init__(self, p: Processing):
        self._p = p

    @property
    def unet(self) -> torch.nn.Module:
        """Its UNet. Raises UnsupportedModelError where it has none that can be erased from."""
        return unet_of(shared.sd_model)

    def encode(self, concept: Concept) -> EncodedConcept:
        """Encode a concept alone, states [77, D] or [77, D of both] of SDXL, with the LoRAs of the running pass."""
        return KEPT.encode(concept, shared.sd_model, self._p)

    def undisturbed(self) -> AbstractContextManager[None]:
        """Make a context for UNet calls of the core's own, which other extensions do not count or draw for."""
        return undisturbed(self._p)

    def state(self) -> tuple[Any, ...]:
        """Return what encodings and scales depend on; they are made again when it changes.

        The UNet, the weights in it (a refiner of its kind takes it over), the pass, and the networks that are active.
        What is written to the UNet's weights the hooks see by themselves. It is asked for in every step, so whether
        the model can be erased from is left to whoever attaches to it.
        """
        return (
            find_unet(shared.sd_model),
            getattr(shared.sd_model, "sd_checkpoint_info", None),
            bool(getattr(self._p, "is_hr_pass", False)),
            active_hypernetworks(),
            active_loras(),
        )


class AnswersByState:
    """What was read of a job's prompts, by the state of the model (``LoadedModel.state``) that it was read in.

    It is not kept any longer: a request can override settings that change what the UNet predicts.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[Any, ...], KeptAnswers]] = []
        self._texts: list[tuple[tuple[Any, ...], TextCalls]] = []

    def of(self, state: tuple[Any, ...]) -> KeptAnswers:
        """Return what was read in a state."""
        found = next((answers for known, answers in self._kept if known == state), None)
        if found is None:
            found = KeptAnswers()
            self._kept.append((state, found))
        return found

    def texts(self, state: tuple[Any, ...], sizes: Collection[Size]) -> TextCalls:
        """Return what makes calls for a prompt's text alone in a state, at latents of these sizes."""
        key = *state[:2], set(sizes)  # the UNet, and the weights in it
        found = next((texts for known, texts in self._texts if known == key), None)
        if found is None:
            found = TextCalls(shared.sd_model, sizes)
            self._texts.append((key, found))
        return found


def active_hypernetworks() -> tuple[Any, ...]:
    """Return the hypernetworks that the WebUI sends prompts through now, with their strengths."""
    active = getattr(shared, "loaded_hypernetworks", None) or ()
    return tuple((id(one), getattr(one, "name", None), *_strengths(one)) for one in active)


def _strengths(hypernetwork: Any) -> tuple[Any, ...]:
    """Return a hypernetwork's strength in each layer; the WebUI sets them whenever a prompt asks for one."""
    layers = getattr(hypernetwork, "layers", None) or {}
    return tuple(getattr(layer, "multiplier", None) for pair in layers.values() for layer in pair)


def active_loras() -> tuple[Any, ...]:
    """Return the LoRAs that the WebUI's own extension puts into the weights now, with their strengths."""
    active = getattr(sys.modules.get("networks"), "loaded_networks", None) or ()
    strengths = "name", "te_multiplier", "unet_multiplier", "dyn_dim"
    return tuple(tuple(getattr(one, part, None) for part in strengths) for one in active)
