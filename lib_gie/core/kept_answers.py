"""What was predicted for prompts, kept while nothing that it depends on changes, so that no prompt is read twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import torch

from .call import UNetCall
from .readings import Answer
from .recorder import Reading


class KeptAnswers:
    """Answers to readings of predicted noise, by what the UNet is given in a row.

    Prompt editing brings the same prompts back step after step, and so do the batches of a job. Whoever keeps them
    longer than one model, and one set of networks in it, must ``clear`` them when these change.
    """

    def __init__(self) -> None:
        self._predicted: dict[_Key, torch.Tensor] = {}  # float32 [inputs]

    def clear(self) -> None:
        """Forget all of them."""
        self._predicted.clear()

    def read(self, kind: Reading, call: UNetCall, ask: Callable[[UNetCall], Answer], misread: bool) -> Answer:
        """Return the answer for the rows of a call; ``ask`` is called where one of them is new.

        ``misread``: whether ``ask`` reads at the call's own size. Attention is not kept: it is another one for every
        concept.
        """
        if not kind.predicted or kind.noise is None:
            return ask(call)
        return self.read_together({kind: call}, lambda calls: {kind: ask(call)}, misread)[kind]

    def read_together(
        self,
        calls: Mapping[Reading, UNetCall],
        ask: Callable[[Mapping[Reading, UNetCall]], Mapping[Reading, Answer]],
        misread: bool = False,
    ) -> dict[Reading, Answer]:
        """Return the answers for the rows of these calls, by kind; ``ask`` is called for those with a new one.

        The kinds must be of predicted noise. ``misread``: see ``read``.
        """
        keys = {kind: _keys(kind, call, misread) for kind, call in calls.items()}
        new = {kind: call for kind, call in calls.items() if not all(key in self._predicted for key in keys[kind])}
        for kind, answer in (ask(new) if new else {}).items():
            assert answer.predicted is not None  # as the kinds say
            self._predicted |= zip(keys[kind], answer.predicted, strict=True)
        rows = {kind: [self._predicted[key] for key in of_kind] for kind, of_kind in keys.items()}
        return {kind: Answer(predicted=torch.stack(of_kind)) for kind, of_kind in rows.items()}

    def keep(self, kind: Reading, call: UNetCall, answer: Answer) -> None:
        """Keep what was predicted for the rows of a call when something else was read; it is not misread."""
        assert answer.predicted is not None  # as whoever keeps it has seen
        self._predicted |= zip(_keys(kind, call, False), answer.predicted, strict=True)


_Key = tuple[Reading, bool, bytes]


def _keys(kind: Reading, call: UNetCall, misread: bool) -> list[_Key]:
    """Return for every row by what its answer is kept."""
    assert kind.noise is not None  # else it depends on the image's own
    return [(kind, misread, digest) for digest in _digests(call.at_noise(kind.noise, None, kind.timestep))]


def _digests(call: UNetCall) -> list[bytes]:
    """Return for every row a digest of all tensors that it is given, and of those that all rows share."""
    shared, by_row = hashlib.sha256(), [hashlib.sha256() for _ in range(call.batch)]
    for tensor in call.tensors():
        values = tensor.detach().float().cpu().contiguous()
        if values.ndim and len(values) == call.batch:
            for row, digest in zip(values, by_row, strict=True):
                digest.update(row.numpy().tobytes())
        else:
            shared.update(values.numpy().tobytes())
    return [digest.digest() + shared.digest() for digest in by_row]
