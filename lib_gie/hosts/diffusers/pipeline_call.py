"""The one place where a diffusers pipeline is called to sample images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def call_pipeline(
    pipe: Any,
    prompts: Sequence[str] | None,
    seeds: Sequence[int],
    *,
    steps: int,
    cfg: float,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """Sample one image per prompt and seed; image k does not depend on the batch that it is made in.

    ``prompts``: None where embeddings are among the ``options``, which the pipeline's call gets as they are.
    ``cfg``: the guidance scale. ``size``: pixels (width, height), None for the model's own. The images are what
    ``output_type`` says, pictures by default.
    """
    width, height = size or (None, None)
    return pipe(
        None if prompts is None else list(prompts),
        num_inference_steps=steps,
        guidance_scale=cfg,
        width=width,
        height=height,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        **options,
    ).images
