"""What is shown beside the results: the images without erasure, where the attention was, and all side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modules import images, processing, shared
from PIL import Image

from .generation import Generation
from .infotext import ADAPTERS, KEYS, SCALE, concepts_text
from .options import TITLE

SAVE_BEFORE, SAVE_ATTENTION = "gie_save_before", "gie_save_attention"
"""Settings: whether these pictures are saved, too."""

_NOT_MADE = f"{TITLE}: what these images would have been is not shown: another extension samples in its own way\n"

Place = tuple[int, int]
"""Batch and number of an image in it."""


class Gallery:
    """Pictures of one job. ``before``, ``attention``: what is to be shown."""

    def __init__(self, before: bool, attention: bool):
        self.before, self.attention = before, attention
        self.twins: dict[Place, Image.Image] = {}
        self.results: dict[Place, Image.Image] = {}

    def add_twins(self, p: Any, pictures: list[Image.Image]) -> None:
        """The batch's images without erasure."""
        self.twins |= {(p.iteration, number): picture for number, picture in enumerate(pictures)}

    def add_result(self, p: Any, picture: Image.Image) -> None:
        """An image as the WebUI is about to show it."""
        self.results[p.iteration, p.batch_index] = picture.convert("RGB")

    def show(self, generation: Generation, processed: Any) -> None:
        """Append everything to the job's images, with infotexts."""
        if not (self.before or self.attention):
            return
        if self.before and self.results and not self.twins:
            processed.comments = getattr(processed, "comments", "") + _NOT_MADE
        plan = next((k for k, plan in enumerate(generation.plans) if not plan.enforced), None)
        _pad_infotexts(processed)
        rows = []
        for place, result in sorted(self.results.items()):
            row = list(self._pictures(generation, plan, place, result))
            for picture in row:
                _append(generation.p, processed, place, picture)
            rows.append((place, result, row))
        if rows:
            _append_sheet(generation, plan, processed, rows)

    def _pictures(self, generation, plan: int, place: Place, result: Image.Image) -> Iterator[_Picture]:
        if place in self.twins:
            yield _Picture("without", self.twins[place], self.twins[place], "-without-erasure", SAVE_BEFORE)
        if self.attention:
            yield from _attention(generation, plan, place, result)


class _Picture:
    """``small``: as it is shown in the sheet; None: not there."""

    def __init__(self, heading: str, picture: Image.Image, small: Image.Image | None, suffix: str, setting: str):
        self.heading, self.picture, self.small, self.suffix, self.setting = heading, picture, small, suffix, setting


def _attention(generation: Generation, number: int, place: Place, result: Image.Image) -> Iterator[_Picture]:
    from ..pictures.attention import Region, explained, overlay, region_map, step_maps, steps_sheet

    plan, recorder = generation.plans[number], generation.recorders.get((number, place[0]))
    rows = [row for row in (recorder.rows() if recorder else ()) if row[0] == place[1]]
    scales = generation.scales_of(number, *place)
    region = Region(*result.size, box=getattr(generation.p, "paste_to", None))
    for k, concept in enumerate(plan.request.concepts):
        if not rows:
            return
        average = region_map(recorder, k, rows, region)  # [H, W]
        text = f"{concept.text}, scale {_scale_text(scales, k)}"
        suffix = f"-attention-{k + 1}"
        yield _Picture(
            f"attention: {concept.text}", explained(result, average, text), overlay(result, average), suffix,
            SAVE_ATTENTION,
        )  # fmt: skip
        steps = step_maps(recorder, k, rows, region)
        yield _Picture("", steps_sheet(result, steps, text), None, f"{suffix}-steps", SAVE_ATTENTION)


def _scale_text(scales: list | None, concept: int) -> str:
    values = [f"{value:.2f}" for row in scales or () for value in row[concept]]
    return ", ".join(dict.fromkeys(values)) or "?"


# -- into the job's images ------------------------------------------------


def _pad_infotexts(processed: Any) -> None:
    """One for each image: the WebUI has none for masks."""
    lacking = len(processed.images) - len(processed.infotexts)
    processed.infotexts += [processed.info] * max(0, lacking)


def _infotext(p: Any, place: Place, erased: bool) -> str:
    """An image's; ``erased``: else what makes the same image without the user's concepts erased."""
    hidden = (
        {} if erased else {key: p.extra_generation_params[key] for key in _OURS if key in p.extra_generation_params}
    )
    for key in hidden:
        del p.extra_generation_params[key]
    try:
        return processing.create_infotext(
            p, p.all_prompts, p.all_seeds, p.all_subseeds, iteration=place[0], position_in_batch=place[1]
        )
    finally:
        p.extra_generation_params.update(hidden)


_OURS = (*KEYS, SCALE, ADAPTERS)


def _add(p: Any, processed: Any, picture: Image.Image, text: str) -> None:
    if shared.opts.enable_pnginfo:
        picture.info["parameters"] = text
    processed.images.append(picture)
    processed.infotexts.append(text)


def _save(p: Any, place: Place, picture: Image.Image, text: str, suffix: str) -> None:
    number = place[0] * p.batch_size + place[1]
    seed, prompt = p.all_seeds[number], p.all_prompts[number]
    images.save_image(
        picture, p.outpath_samples, "", seed, prompt, shared.opts.samples_format, info=text, p=p, suffix=suffix
    )


def _append(p: Any, processed: Any, place: Place, shown: _Picture) -> None:
    text = _infotext(p, place, erased=shown.setting != SAVE_BEFORE)
    _add(p, processed, shown.picture, text)
    if getattr(shared.opts, shown.setting, False) and p.save_samples():
        _save(p, place, shown.picture, text, shown.suffix)


def _append_sheet(generation: Generation, number: int, processed: Any, rows: list) -> None:
    """All images of the job, with and without, in one picture."""
    from ..pictures import Row, contact_sheet

    p, request = generation.p, generation.plans[number].request
    headings = ["with", *(shown.heading for shown in rows[0][2] if shown.small is not None)]
    lines = []
    for (batch, image), result, shown in rows:
        seed = p.all_seeds[batch * p.batch_size + image]
        note = f"erased: {concepts_text(request.concepts)}"
        lines.append(Row(f"seed {seed}", note, [result, *(one.small for one in shown if one.small is not None)]))
    sheet = contact_sheet(headings, lines, side=min(512, max(192, *rows[0][1].size)))
    _add(p, processed, sheet, processed.info)
