"""The row ledger under hosts of every kind: an image is erased from in full, or an error is raised."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tiny import CONTEXT_WIDTH, build_ldm, make_concept

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.rows import Identities, RowLedger
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach
from lib_gie.errors import ErasureError

LENGTH = 77
UNET = build_ldm()
REFERENCE = copy.deepcopy(UNET)
KNIFE = make_concept()


POOL = torch.randn(5, LENGTH, CONTEXT_WIDTH, generator=torch.Generator().manual_seed(4))  # [prompts, L, D]
FOREIGN = 4
"""The prompt that no step announces."""


def new_erasure() -> Erasure:
    return Erasure([Target(KNIFE, FixedScale(-3.0))])


def predict(unet, latents: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """One UNet call: latents [B, 4, 8, 8], context [B, L, D] -> [B, 4, 8, 8]."""
    with torch.no_grad():
        return unet(latents, torch.full((len(latents),), 500), context)


def known(latents: torch.Tensor, context: torch.Tensor, erased: bool) -> torch.Tensor:
    """What one row, latents [4, 8, 8] under context [L, D], must give: [4, 8, 8]."""
    if not erased:
        return predict(REFERENCE, latents[None], context[None])[0]
    one = new_erasure()
    with attach(REFERENCE.module, one):
        one.begin((0,), 0.0)
        return predict(REFERENCE, latents[None], context[None])[0]


class Step:
    """A step of images with parts: names, contexts and latents of its rows as AUTOMATIC1111's WebUI orders them."""

    def __init__(self, images, negative: int, scale: float, seed: int = 0):
        """``images``: for each its parts, (prompt, weight); ``negative``: the prompt of the rows without."""
        self.prompts = [prompt for parts in images for prompt, _ in parts] + [negative] * len(images)
        self.images = [number for number, parts in enumerate(images) for _ in parts] + list(range(len(images)))
        weights = [weight for parts in images for _, weight in parts]
        places = [(number, place) for number, parts in enumerate(images) for place in range(len(parts))]
        named = [place if weight >= 0 else None for place, weight in zip(places, weights, strict=True)]
        self.names = named + [None] * len(images)
        self.shares = [scale * weight for weight in weights]
        self.shares += [1 - scale * sum(weight for _, weight in parts) for parts in images]
        own = torch.randn(len(images), 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        self.latents, self.context = own[self.images], POOL[self.prompts]  # [rows, 4, 8, 8], [rows, L, D]
        self.outputs: dict[int, torch.Tensor] = {}

    def identities(self) -> Identities:
        count = len(self.names) - len(set(self.images))
        groups = [self.context[:count], self.context[count:]]
        return Identities(groups, self.images, self.shares, latents=self.latents)

    def is_erased(self, position: int) -> bool:
        """Whether the row must be erased from: drawn, together with what it cannot be told from."""
        same = [
            other
            for other, (image, prompt) in enumerate(zip(self.images, self.prompts, strict=True))
            if (image, prompt) == (self.images[position], self.prompts[position])
        ]
        if len({self.names[other] is None for other in same}) == 1:
            return self.names[position] is not None
        return sum(self.shares[other] for other in same) > 0

    def call(self, positions) -> None:
        chosen = list(positions)
        found = predict(UNET, 0.5 * self.latents[chosen], self.context[chosen])  # hosts scale what they pass on
        self.outputs |= dict(zip(chosen, found, strict=True))

    def check(self) -> None:
        for position, output in self.outputs.items():
            expected = known(0.5 * self.latents[position], self.context[position], self.is_erased(position))
            torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
        seen = {(self.images[position], self.prompts[position]) for position in self.outputs}
        drawn = {(i, p) for i, p, name in zip(self.images, self.prompts, self.names, strict=True) if name is not None}
        assert drawn <= seen


PARTS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 0.5, -0.5, 2.0, 0.0])), min_size=1, max_size=2)


class RandomHost(RuleBasedStateMachine):
    """Announces steps and calls the UNet with whatever rows it likes; swallows every error on the way."""

    @initialize(
        images=st.lists(PARTS, min_size=1, max_size=3), negative=st.integers(0, 3), scale=st.sampled_from([1, 4])
    )
    def start(self, images, negative, scale):
        self.images, self.negative, self.scale = images, negative, scale
        self.erasure, self.steps, self.refused = new_erasure(), [], False
        self.attached = contextlib.ExitStack()
        self.attached.enter_context(attach(UNET.module, self.erasure))

    @contextlib.contextmanager
    def swallowing(self):
        try:
            yield
        except ErasureError:
            self.refused = True

    @rule()
    def begin(self):
        step = Step(self.images, self.negative, self.scale, seed=len(self.steps))
        with self.swallowing():
            self.erasure.begin(step.names, 0.0, step.identities)
            self.steps.append(step)

    @precondition(lambda self: self.steps)
    @rule(order=st.randoms(use_true_random=False), cuts=st.integers(1, 3))
    def all_rows_in_some_order(self, order, cuts):
        positions = list(range(len(self.steps[-1].names)))
        order.shuffle(positions)
        size = -(-len(positions) // cuts)
        with self.swallowing():
            for first in range(0, len(positions), size):
                self.steps[-1].call(positions[first : first + size])

    @precondition(lambda self: self.steps)
    @rule(numbers=st.lists(st.integers(0, 20), min_size=1, max_size=5))
    def some_rows(self, numbers):
        """Windows, extra calls, repeats, rows left out."""
        with self.swallowing():
            self.steps[-1].call([number % len(self.steps[-1].names) for number in numbers])

    @precondition(lambda self: self.steps)
    @rule()
    def a_prompt_of_its_own(self):
        with pytest.raises(ErasureError):
            predict(UNET, self.steps[-1].latents[:1], POOL[FOREIGN:])
        self.refused = True

    def teardown(self):
        if not hasattr(self, "erasure"):
            return
        with self.attached:
            try:
                self.erasure.finish()
            except ErasureError:
                return
        assert not self.refused, "an error was swallowed and forgotten"
        assert self.steps
        for step in self.steps:
            step.check()


RandomHost.TestCase.settings = settings(
    max_examples=60, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
test_random_hosts = RandomHost.TestCase


# -- hosts that are known ------------------------------------------------

KNIFE_AND_CAT = [[(0, 1.0)], [(1, 1.0)], [(0, 1.0)], [(1, 0.5), (2, 0.5)]]
PLAIN = [[(0, 1.0)], [(0, 1.0)]]


def run(step: Step, calls, identify: bool = True) -> None:
    erasure = new_erasure()
    with attach(UNET.module, erasure):
        erasure.begin(step.names, 0.0, step.identities if identify else None)
        for positions in calls:
            step.call(positions)
        erasure.finish()


@pytest.mark.parametrize(
    ("images", "calls"),
    [
        (PLAIN, [[0, 1, 2, 3]]),
        (PLAIN, [[0, 1], [2, 3]]),
        (PLAIN, [[2, 3, 0, 1]]),  # halves swapped
        (PLAIN, [[0, 1]]),  # the unconditional rows left out
        (PLAIN, [[0, 1], [0, 1], [0, 1]]),  # and an extra conditional call of another extension
        (PLAIN, [[0, 1, 2, 3], [0, 1], [2, 3], [3]]),
        ([*PLAIN, *PLAIN], [[0, 1, 4, 5], [2, 3, 6, 7]]),  # windows
        (KNIFE_AND_CAT, [[4, 3, 2, 1, 0], [5, 6, 7, 8]]),
        (KNIFE_AND_CAT, [[0, 5], [1, 6], [2, 7], [3, 4, 8]]),
    ],
)
def test_known_hosts_are_erased_from(images, calls):
    step = Step(images, negative=3, scale=4)
    run(step, calls)
    step.check()


@pytest.mark.parametrize("calls", [[[0, 1, 2, 3]], [[2, 3, 0, 1]], [[0, 2], [1, 3]], [[2, 1], [0, 3]]])
def test_a_prompt_that_is_the_negative_prompt(calls):
    """Its rows give the same, in whatever order they come: both are erased from, and so is the image."""
    step = Step(PLAIN, negative=0, scale=4)
    run(step, calls)
    step.check()


def test_one_prompt_drawn_and_pushed_away():
    for weights, erased in (((1.5, -0.5), True), ((0.5, -1.5), False)):
        step = Step([[(0, weights[0]), (0, weights[1]), (1, 2.0)]], negative=3, scale=4)
        run(step, [[1, 0, 3, 2]])
        assert [step.is_erased(position) for position in range(4)] == [erased, erased, True, False]
        step.check()


def test_one_prompt_drawn_in_one_image_and_pushed_away_in_another():
    images = [[(0, 1.0)], [(1, 1.0), (0, -0.5)]]
    step = Step(images, negative=3, scale=4)
    run(step, [[2, 1, 0], [4, 3]])  # told by the latents
    step.check()
    step = Step(images, negative=3, scale=4)
    step.latents = step.latents[:1].expand_as(step.latents)
    with pytest.raises(ErasureError, match="one by one"):
        run(step, [[0, 1, 2, 3, 4]])


def test_what_a_host_shows_is_erased_from_in_any_case():
    step = Step([[(0, 0.5), (0, -1.5), (1, 2.0)]], negative=3, scale=4)
    found = step.identities()
    step.identities = lambda: Identities(found.contexts, found.images, found.shares, frozenset([0]), found.latents)
    with pytest.raises(ErasureError, match="put a part first that is drawn"):
        run(step, [[0, 1, 2, 3]])


def test_regions_of_an_image_in_tiles_have_prompts_of_their_own():
    """Such a tile's rows are known by their place, as long as those of them that are known are at theirs."""
    step = Step([[(0, 1.0)]], negative=3, scale=4)
    region = torch.cat([POOL[FOREIGN:], step.context[1:]])  # [rows, L, D]
    ledger, tile = RowLedger(), torch.zeros(2, 4, 4, 4)  # [B, C, H, W], of another size
    ledger.begin(step.names, step.identities)
    with ledger.tiles(2):
        assert ledger.take(tile, step.context) == ((0, 0), None)
        assert ledger.take(tile, region) == ((0, 0), None)
        with pytest.raises(ErasureError, match="did not announce"):
            ledger.take(tile, region.flip(0))


def test_by_their_place_where_nothing_tells_rows_apart():
    step = Step(PLAIN, negative=3, scale=4)
    run(step, [[0, 1], [2, 3]], identify=False)
    step.check()
    with pytest.raises(ErasureError, match="called with 2 rows where 0 of 4"):
        run(step, [[0, 1, 2, 3], [0, 1]], identify=False)


def positions(found: Identities, context: torch.Tensor) -> list[list[int]]:
    """The announced rows that each of ``context`` [B, L, D] can be."""
    return [row.positions for row in found.candidates(torch.zeros(len(context), 4, 8, 8), context)]


@pytest.mark.parametrize(("longer", "length"), [(0, 2 * LENGTH), (1, 2 * LENGTH), (1, LENGTH - 10)])
def test_contexts_that_the_host_lengthens_or_cuts(longer, length):
    """A WebUI brings prompt and negative prompt to one length by padding, or by cutting the negative prompt off."""
    groups = [POOL[:1], POOL[1:2]]  # [1, L, D] each
    called = list(groups)
    called[longer] = torch.cat([groups[longer], POOL[2:3]], 1)[:, :length]  # [1, length, D]
    found = Identities(groups, [0, 0], [4.0, -3.0])
    assert [positions(found, context) for context in called] == [[[0]], [[1]]]


def test_a_longer_prompt_is_not_taken_for_one_that_it_begins_with():
    beginning = POOL[:1]  # [1, L, D]
    longer = torch.cat([beginning, POOL[1:2]], 1)  # [1, 2L, D]
    padded = torch.cat([beginning, POOL[2:3]], 1)  # [1, 2L, D]
    found = Identities([longer, beginning], [0, 0], [4.0, -3.0])
    assert positions(found, torch.cat([padded, longer])) == [[1], [0]]


def test_half_precision_of_what_was_announced():
    found = Identities([POOL[:1], POOL[1:2]], [0, 0], [4.0, -3.0])
    assert positions(found, POOL[:2].half()) == [[0], [1]]
    assert positions(found, POOL[:2, :, :8]) == [[], []]


def test_prompts_for_another_number_of_rows():
    ledger = RowLedger()
    ledger.begin((0, None), lambda: Identities([POOL[:1], POOL[:3]], [0, 0], [4.0, -3.0]))
    with pytest.raises(ErasureError, match="2 rows were announced and there are prompts for 4"):
        ledger.take(torch.zeros(2, 4, 8, 8), POOL[:2])


def test_what_was_refused_once_is_said_again():
    """Hosts swallow errors; the image must not come out all the same."""
    ledger = RowLedger()
    ledger.begin((0, None))
    with pytest.raises(ErasureError, match="where 2 of 2"):
        ledger.take(torch.zeros(3, 4, 8, 8), None)
    for again in (ledger.finish, lambda: ledger.begin((0, None))):
        with pytest.raises(ErasureError, match="where 2 of 2"):
            again()


def test_what_is_found_wrong_after_the_call_is_said_again():
    erasure, layer, again = new_erasure(), UNET.cross_attention[-1], []
    step = Step(PLAIN, negative=3, scale=4)

    def once_more(module, args, kwargs):
        if not again:
            again.append(1)
            module(*args, **kwargs)

    handle = layer.register_forward_pre_hook(once_more, with_kwargs=True)
    with attach(UNET.module, erasure):
        erasure.begin(step.names, 0.0, step.identities)
        with contextlib.suppress(ErasureError):
            step.call([0, 1, 2, 3])
        handle.remove()
        with pytest.raises(ErasureError, match="2 times in one UNet call"):
            erasure.begin(step.names, 0.5, step.identities)


TOLD_BY_LATENTS = {
    "the name of the row's own image": (
        [0, 0, 0, 1, 0, 2, 2, 2], [0, 1, 1, 2, 2, 0, 1, 2],
        [(0, 0), None, (1, 1), (2, 0), None, None, None, None], [4, -4, 12, 4, -4, -3, -7, 1], frozenset(), (5, 3),
    ),
    "a first part of another image": (
        [0, 1, 0, 2, 2], [0, 1, 1, 0, 1],
        [(0, 0), (1, 0), None, None, None], [4, 4, -2, -3, -1], frozenset({0, 1}), (3, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD_BY_LATENTS)
def test_rows_of_one_text_that_their_latents_tell_apart(case):
    contexts, images, names, shares, shown, sizes = TOLD_BY_LATENTS[case]
    generator = torch.Generator().manual_seed(0)
    pool, latents = torch.randn(3, 77, 8, generator=generator), torch.randn(3, 4, 8, 8, generator=generator)
    context, own = pool[contexts], latents[images]  # [rows, L, D], [rows, 4, h, w]
    ledger = RowLedger()
    ledger.begin(names, lambda: Identities(context.split(sizes), images, shares, shown, own))
    for name, image in zip(ledger.take(own, context), images, strict=True):
        assert name is None or name[0] == image
    ledger.finish()
