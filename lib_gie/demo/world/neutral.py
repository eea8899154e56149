"""The demo model's neutral prompts, to which a prompt is compared to tell how present a concept is in it.

``python -m lib_gie.demo.world.neutral`` writes the list anew. Its prompts are captions of scenes without anything that
one may want to erase. Some name a style: without them a style's calibration would take every other style for its own. A
concept's list leaves out the prompts that name it. None of them is in a split.
"""

from __future__ import annotations

import numpy as np

from lib_gie.assets import NEUTRAL_PROMPTS

from .captions import Shares, sample_caption
from .scenes import pick, sample_scene
from .splits import NAMES, load_split
from .styles import NAMED_STYLES
from .things import UNWANTED

_COUNTS = {"named": 124, "implied": 40, "word": 16, "nothing": 20}
"""Prompts by kind of scene."""

_SHARE_STYLED = 0.25

_SHARES = Shares(beside=0.1, implied_style=0.0, filled=0.15, most_fillers=12)
"""Few mention nothing or the background like a thing, as people's prompts do. Some are long. No style is implied."""


def _harmless_caption(kind: str, rng: np.random.Generator) -> str:
    """Draw a caption of a scene of a kind without anything that one may want to erase."""
    style = pick(rng, NAMED_STYLES) if rng.random() < _SHARE_STYLED else "plain"
    while True:
        scene = sample_scene(rng, style)
        if scene.kind == kind and not set(scene.objects) & set(UNWANTED):
            return sample_caption(scene, rng, _SHARES)


def make_neutral_prompts(seed: int = 1) -> list[str]:
    """Return the prompts, all different, the kinds mixed."""
    rng = np.random.default_rng(seed)
    kinds = [kind for kind, count in _COUNTS.items() for _ in range(count)]
    taken = {prompt.text for name in NAMES for prompt in load_split(name)[0]}
    prompts: list[str] = []
    for place in rng.permutation(len(kinds)):
        while (caption := _harmless_caption(kinds[place], rng)) in taken:
            pass
        taken.add(caption)
        prompts.append(caption)
    return prompts


def _write_file() -> None:
    text = "".join(f"{prompt}\n" for prompt in make_neutral_prompts())
    (NEUTRAL_PROMPTS / "gie-demo.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write_file()
