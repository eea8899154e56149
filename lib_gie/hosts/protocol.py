"""The contract between the core and a sampling host, which is a program that makes images with a UNet.

A host has a ``SamplingHost`` for the model that it samples with, and hands its UNet's erasures to an ``ErasedSampling``
(``erased_sampling.py``), which attaches them. Before each denoising step it announces the step's rows (``StepRows``).
After the last step it calls ``ErasedSampling.finish``. All else is optional:

- A host that makes a step's images tile by tile does so within ``ErasedSampling.ledger.tiles``.
- A host that changes its model on the way makes a new ``ErasedSampling``, with erasures that ``go_on_from`` the old.
- ``is_inner_call`` tells a host's own hooks which UNet calls are the core's. No host announces those.

Errors belong into the UNet call, where every host stops. A host whose callbacks swallow exceptions keeps an error and
raises it in a hook of the UNet. What the core itself refuses, it raises in the UNet call and again in ``finish``.

The core finds the model's family in the UNet's layers (``core.layers.family_of``), so a host does not name it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import nn

from lib_gie.core.call import UNetCall
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.rows import Identities, Name


@runtime_checkable
class SamplingHost(Protocol):
    """The model that a host samples with, as it is now."""

    @property
    def unet(self) -> nn.Module:
        """The module that the host calls with latents, timesteps and a context; the erasures' hooks go on it.

        Raises UnsupportedModelError where nothing can be erased from the model.
        """

    def encode(self, concept: Concept) -> EncodedConcept:
        """Encode a concept alone, by the text encoder and with the settings (clip skip, LoRAs) of the prompts.

        It is called outside of UNet calls. Raises ConceptError for a text without tokens, or with too many.
        """

    def undisturbed(self) -> AbstractContextManager[Any]:
        """Make a context for UNet calls of the core's own, after which the host goes on as if there had been none.

        Whatever a UNet call of the host draws, counts or moves is put back. ``lib_gie.randomness.undrawn`` does so for
        random numbers.
        """


@runtime_checkable
class StepRows(Protocol):
    """The rows of one denoising step, in all its UNet calls together."""

    @property
    def names(self) -> Sequence[Name]:
        """A name for each row from which the concepts are erased, None for each of the others.

        A row keeps its name over the steps; usually it is the image's number. Unconditional rows are among the others.
        """

    @property
    def identify(self) -> Callable[[], Identities] | None:
        """Tells what the rows are told apart by, when the UNet is called; None: they are known by their place."""

    @property
    def order(self) -> Callable[[UNetCall], Sequence[Name]] | None:
        """Returns the names of one UNet call's rows in their order; None: calls take the rows as ``names`` has them.

        It raises ErasureError for a call whose rows cannot be known.
        """
