"""What a step's rows are told apart by, where a host says it: their contexts, latents and shares in their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib_gie.errors import ErasureError

from .announced import Announced, Name

_ALIKE = 0.9999
"""The cosine from which on two latents are the same: hosts scale and may round them, and change nothing else."""


@dataclass(frozen=True)
class Candidates:
    """The positions of announced rows that a UNet call's row can be: by its context, and those by its latents, too."""

    positions: list[int]
    alike: list[int]


@dataclass(frozen=True, eq=False)
class Identities:
    """The tensors and shares that a step's rows are told apart by.

    Every sequence has one entry per announced row, in their order.

    ``contexts``: float [rows, L, D] each; together they have all rows. A host may lengthen or shorten a context later,
    but not change what it begins with. ``images``: the number of each row's image.
    ``shares``: how large a part of its image each row makes; below 0 where it is pushed away. Rows of one image under
    one context cannot be told apart: all of them are erased from where they make a part of the image together.
    ``shown``: positions of rows whose own prediction a host may show, which must be erased from in any case.
    ``latents``: float [rows, C, H, W], None where they are not known.
    """

    contexts: Sequence[torch.Tensor]
    images: Sequence[int]
    shares: Sequence[float]
    shown: frozenset[int] = frozenset()
    latents: torch.Tensor | None = None

    def candidates(self, latents: torch.Tensor, context: torch.Tensor) -> list[Candidates]:
        """Find which announced rows each row of a UNet call can be: ``latents`` [B, C, H, W], ``context`` [B, L, D].

        Both comparisons come from the device in one copy.
        """
        same, lengths = self._same_contexts(context), [group.shape[1] for group in self.contexts for _ in group]
        alike = self._alike(latents).to(same.device) & same  # [B, rows]
        found = []
        for is_same, is_alike in zip(*torch.stack([same, alike]).tolist(), strict=True):
            positions = [position for position, one in enumerate(is_same) if one]
            exact = [position for position in positions if lengths[position] == context.shape[1]] or positions
            found.append(Candidates(exact, [position for position in exact if is_alike[position]]))
        return found

    def _same_contexts(self, context: torch.Tensor) -> torch.Tensor:
        """Tell whether [B, L, D] begins as each announced row does, as far as both go: bool [B, rows]."""
        found = []
        for group in self.contexts:
            length = min(context.shape[1], group.shape[1])
            like = group[:, :length].to(context.device, context.dtype)  # [rows, l, D]
            if like.shape[2] == context.shape[2]:
                found.append((context[:, None, :length] == like[None]).flatten(2).all(-1))  # [B, rows]
            else:
                found.append(torch.zeros(len(context), len(group), dtype=torch.bool, device=context.device))
        return torch.cat(found, 1)  # [B, rows]

    def _alike(self, latents: torch.Tensor) -> torch.Tensor:
        """Tell whether [B, C or more, H, W] is what each announced row has, but for a factor: bool [B, rows].

        True where that cannot be compared, as in a tile.
        """
        count = sum(map(len, self.contexts))
        if self.latents is None or self.latents.shape[2:] != latents.shape[2:]:
            return torch.ones(len(latents), count, dtype=torch.bool)
        own = self.latents.flatten(1).float()  # [rows, C*H*W]
        given = latents[:, : self.latents.shape[1]].flatten(1).to(own)  # [B, C*H*W]
        cosines = torch.nn.functional.cosine_similarity(given[:, None], own[None], dim=-1)  # [B, rows]
        return cosines > _ALIKE


class KnownRows:
    """The rows of a step that are told apart by their identities: a UNet call may have any of them, and again.

    Raises ErasureError where there are identities for another number of rows than was announced.
    """

    def __init__(self, announced: Announced, identities: Identities):
        count = sum(map(len, identities.contexts))
        if count != len(announced.names):
            raise ErasureError(
                f"{len(announced.names)} rows were announced and there are prompts for {count}, so it is unknown which "
                f"belong together. Another extension adds rows or takes some away: switch it off"
            )
        self._announced, self._identities = announced, identities

    def take(
        self, latents: torch.Tensor, context: torch.Tensor | None, placed: tuple[Name, ...] | None
    ) -> tuple[Name, ...]:
        """Return the names of a UNet call's rows: latents [B, C, H, W], context [B, L, D].

        ``placed``: their names by their place in tiles, which may have prompts of their own. Raises ErasureError for
        rows that are not known.
        """
        candidates = [] if context is None else self._identities.candidates(latents, context)
        unknown = len(latents) - sum(bool(row.positions) for row in candidates)
        if not unknown:
            return tuple(map(self._name_of, candidates))
        if placed is not None and self._fits(candidates, placed):
            return placed
        raise ErasureError(
            f"{unknown} of {len(latents)} rows of a UNet call have a prompt that this step did not announce, so it is "
            f"unknown what they draw. Another extension samples with prompts of its own: switch it off"
        )

    def _fits(self, candidates: Sequence[Candidates], placed: Sequence[Name]) -> bool:
        """Tell whether each row that is known is conditional where its place in the tiles says so, and only there."""
        known = [(row, name) for row, name in zip(candidates, placed, strict=False) if row.positions]
        return all((self._name_of(row) is None) == (name is None) for row, name in known)

    def _name_of(self, row: Candidates) -> Name:
        """Return the name of a UNet call's row, and count its use."""
        names = self._announced.names
        is_erased, positions = self._decide(row)
        if not is_erased and self._identities.shown.intersection(positions):
            raise ErasureError(
                "the first part of the prompt is pushed away by others of the same text, and what a WebUI shows on the "
                "way is made of it: put a part first that is drawn"
            )
        chosen = self._announced.use(row.alike or positions)
        if not is_erased:
            return None
        named = [position for position in (chosen, *row.alike, *positions) if names[position] is not None]
        return names[named[0]]

    def _decide(self, row: Candidates) -> tuple[bool, Sequence[int]]:
        """Tell whether a row draws its prompt, and by which positions that is known.

        All that the row can be must agree; else those that have its latents, too.
        """
        for positions in (row.positions, row.alike):
            images = {self._identities.images[position] for position in positions}
            answers = {self._is_drawn(positions, image) for image in images}
            if len(answers) == 1:
                return answers.pop(), positions
        raise ErasureError(
            "a row of a UNet call can be that of an image that draws its prompt or that of another image that "
            "pushes the same prompt away, so it is unknown whether to erase from it. Make these images one by one"
        )

    def _is_drawn(self, positions: Sequence[int], image: int) -> bool:
        """Tell whether an image's rows at these positions, all under one context, make a part of it together."""
        own = [position for position in positions if self._identities.images[position] == image]
        kinds = {self._announced.names[position] is not None for position in own}
        if len(kinds) == 1:
            return kinds.pop()
        return sum(self._identities.shares[position] for position in own) > 0
