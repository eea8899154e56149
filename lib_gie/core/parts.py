"""What a UNet call is divided into: the erasures that are attached, and the rows that each of them erases from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .call import Rows, UNetCall
from .composition import Follower
from .erasure import Erasure
from .folds import Encoded
from .passes import Maps
from .runner import Undisturbed


@dataclass(eq=False)
class Member:
    """An erasure that is attached to a UNet.

    ``undisturbed``: a context around UNet calls that no host makes. ``follower``: its hooks that keep a composition.
    ``uses``: how often it is attached.
    """

    erasure: Erasure
    undisturbed: Undisturbed
    follower: Follower | None
    uses: int = 0
    handles: list[tuple[nn.Module, RemovableHandle]] = field(default_factory=list)

    @cached_property
    def encoded(self) -> Encoded:
        """The concepts as the text encoder sees them."""
        return tuple(target.encoded for target in self.erasure.targets)

    @property
    def padding(self) -> float:
        """See ErasureSettings."""
        return self.erasure.settings.padding

    @property
    def is_separate(self) -> bool:
        """Tell whether the concepts have UNet passes of their own."""
        return self.erasure.settings.concept_pass == "separate"


@dataclass(frozen=True, eq=False)
class ConditionalRows:
    """The conditional rows of a UNet call, by their names, as one ledger knows them.

    ``numbers``: their positions. ``context``: theirs, [rows, L, D].
    """

    call: UNetCall
    rows: Rows
    names: tuple[Hashable, ...]
    numbers: Sequence[int]
    context: torch.Tensor

    @cached_property
    def own(self) -> UNetCall:
        """The call of these rows alone."""
        return self.call.rows(self.rows)


@dataclass(frozen=True, eq=False)
class Part:
    """A member and the rows that it erases from.

    ``scales``: w of each concept, float32 [rows, n], on the CPU. ``maps``: of the concepts' own passes.
    """

    member: Member
    taken: ConditionalRows
    scales: tuple[torch.Tensor, ...] = ()
    maps: Maps | None = None

    @cached_property
    def any_scale(self) -> bool:
        """Tell whether any scale is not zero."""
        return any(bool((scale != 0).any()) for scale in self.scales)

    @property
    def injects(self) -> bool:
        """Tell whether something is erased in this step."""
        return self.member.erasure.injects and self.any_scale
