"""The pictures beside the results: the images without erasure, where the attention was, and a sheet of all.

None of them gets round what other extensions do to images. The images without erasure go through all that the results
go through (``unerased.finish``), and the other pictures are made of those and of the results. All of them are among the
job's images when scripts go over these. A picture that was made of images which are no longer the same is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from modules import errors, processing, scripts
from PIL import Image

from lib_gie.core.recorder import AttentionRecorder
from lib_gie.hosts.webui.request.infotext import concepts_text
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.sampling.erased_generation import Generation, is_stopped
from lib_gie.hosts.webui.sampling.found_scales import FoundScales

from . import unerased
from .beside import (
    SAVE_ATTENTION,
    SAVE_BEFORE,
    Picture,
    Place,
    as_the_results,
    saves_results,
    script_title,
)
from .job_images import JobImages

SAMPLED_OTHERWISE = "another extension samples in its own way"
_WITHOUT = "without"
_ADDS_OR_DROPS = "another extension adds images to the batch or takes some away"
_CHANGED = "attention and comparison are not shown: another extension has changed the images they were made of"

_GONE_THROUGH = frozenset(
    {
        "post_sample", "postprocess", "postprocess_batch", "postprocess_batch_list", "postprocess_image",
        "postprocess_maskoverlay", "postprocess_image_after_composite",
    }
)  # fmt: skip
"""A script's methods for samples and images: our pictures go through all of them."""


class Gallery:
    """Pictures of one job. ``before``, ``attention``: what is to be shown."""

    def __init__(self, before: bool, attention: bool):
        self.before, self.attention = before, attention
        self.unerased: dict[Place, unerased.Finished] = {}
        self.results: dict[Place, Image.Image] = {}
        self.was_appended = False
        self._batch = _Batch()
        self._shown: list[Picture] = []
        self._followed: JobImages | None = None
        self._notes: dict[str, None] = {}

    def refuse(self, reason: str) -> None:
        """Show no image without erasure."""
        self.before, self._batch.samples = False, None
        self.unerased.clear()
        self._note(f"what these images would have been is not shown: {reason}")

    def _note(self, text: str) -> None:
        self._notes[f"{TITLE}: {text}\n"] = None

    # -- a batch ------------------------------------------------

    def begin(self, p: Any) -> None:
        """Prepare for a batch that is about to be sampled."""
        self._batch = _Batch()
        if self.before and (reason := _unknown_hook(p)) is not None:
            self.refuse(reason)

    def keep(self, samples: Any) -> None:
        """Keep the batch's samples without erasure."""
        self._batch.samples = samples if self.before else None

    def returns(self, samples: Any) -> None:
        """Note the batch's own samples as they go to the host."""
        if self._batch.samples is not None:
            self._batch.returned, self._batch.drawn = [one.clone() for one in samples], unerased.Drawn()

    def arrives(self, samples: Any) -> None:
        """Refuse the images without erasure where the batch's own samples were changed on the way to the host.

        Whatever changed these has not changed the others.
        """
        batch = self._batch
        if batch.samples is None:
            return
        if batch.returned is None or not _are_equal(batch.returned, samples):
            self.refuse(SAMPLED_OTHERWISE)
        batch.arrived, batch.returned = True, None

    def expect(self, sampled: int, left: int) -> None:
        """Note how many images were ``sampled`` in the batch, and are ``left`` after the scripts have gone over it."""
        self._batch.images = left
        if sampled != left:
            self._batch.images = 0  # it is unknown which is which
            self._note(f"nothing is shown beside the images of a batch: {_ADDS_OR_DROPS}")

    def add_result(self, p: Any, picture: Image.Image) -> None:
        """Keep a result as the WebUI is about to show it. After a batch's last one finish those without erasure."""
        if not self._batch.images:
            return
        self.results[p.iteration, p.batch_index] = picture
        if p.batch_index == self._batch.images - 1:
            self._finish(p)

    def _finish(self, p: Any) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.samples is None or is_stopped():
            return
        try:
            pictures = unerased.finish(p, batch.samples, batch.drawn) if batch.arrived and batch.drawn else None
        except Exception as error:
            errors.report(f"{TITLE}: an image without erasure cannot be shown", exc_info=True)
            self.refuse(str(error))
            return
        if pictures is None or len(pictures) != batch.images:
            self.refuse(SAMPLED_OTHERWISE if pictures is None else _ADDS_OR_DROPS)
        elif not is_stopped():
            self.unerased |= {(p.iteration, number): finished for number, finished in enumerate(pictures)}

    # -- the whole job ------------------------------------------------

    def append(self, generation: Generation, processed: Any) -> None:
        """Append everything to the job's images, with infotexts, before the scripts go over these."""
        self.was_appended = True
        if self.before and self.results and not self.unerased and not is_stopped():
            self.refuse(SAMPLED_OTHERWISE)
        plan = next(k for k, plan in enumerate(generation.plans) if not plan.enforced)  # a gallery is for such a one
        _pad_infotexts(processed)
        rows = []
        for place, result in sorted(self.results.items(), key=lambda item: item[0]):
            row = [_unerased(place, *self.unerased[place])] if place in self.unerased else []
            row += _attention(generation, plan, place, result) if self.attention else ()
            for picture in row:
                self._append(generation.p, processed, picture)
            rows.append((place, result, row))
        if any(row for *_, row in rows):
            self._append(generation.p, processed, _sheet(generation, plan, rows))
        self._followed = JobImages(processed, list(self.results.values()))

    def _append(self, p: Any, processed: Any, shown: Picture) -> None:
        shown.add_to(processed, processed.info if shown.place is None else _infotext(p, shown.place))
        self._shown.append(shown)

    def settle(self, p: Any, processed: Any, failed: Sequence[str]) -> None:
        """Take away pictures that were made of what scripts have changed, save the others if they are to be, say why.

        To be called after the scripts have gone over the job's images. ``failed``: what errors said meanwhile.
        """
        processed.images = list(processed.images)
        if failed and self._shown:
            self._note(f"nothing is shown beside the images: a script of another extension failed on it ({failed[0]})")
            self.take_back(processed)
        followed = self._followed or JobImages(processed)
        for shown in list(self._shown):
            if all(map(followed.is_as_it_was, shown.sources)):
                self._pass_on(p, shown, followed)
            else:
                self._note(_CHANGED)
                self._take_away(shown, followed)
        processed.comments = getattr(processed, "comments", "") + "".join(self._notes)

    def pairs(self) -> list[tuple[int, int]]:
        """Return which of the job's images are the same with and without erasure, by their numbers."""
        shown = [(one, one.place) for one in self._shown if one.setting == SAVE_BEFORE and one.place]
        return self._followed.numbers([(self.results[at], one.picture) for one, at in shown]) if self._followed else []

    def take_back(self, processed: Any) -> None:
        """Take all pictures away again."""
        followed = self._followed or JobImages(processed)
        for shown in list(self._shown):
            self._take_away(shown, followed)

    def _take_away(self, shown: Picture, followed: JobImages) -> None:
        self._shown.remove(shown)
        followed.take_away(shown.picture)

    def _pass_on(self, p: Any, shown: Picture, followed: JobImages) -> None:
        """Save a picture, or have other extensions do to it what they do to results that are saved."""
        picture = followed.now(shown.picture)
        if not isinstance(picture, Image.Image) or not saves_results(p):
            return
        passed_on, note = as_the_results(p, shown, picture)
        if note:
            self._note(note)
        if passed_on is None:
            self._take_away(shown, followed)
        elif passed_on is not picture:
            followed.replace(shown.picture, passed_on)


class _Batch:
    """The batch that is being made, until its images without erasure are finished."""

    def __init__(self) -> None:
        self.samples: Any = None  # of the images without erasure
        self.returned: list[torch.Tensor] | None = None
        self.drawn: unerased.Drawn | None = None
        self.arrived = False
        self.images: int | None = None


def _unknown_hook(p: Any) -> str | None:
    """Say which script goes over finished images by a method that ours cannot be sent through; None: no script does."""
    names = [name for name in dir(scripts.Script) if name.startswith("post") and name not in _GONE_THROUGH]
    for script in getattr(p.scripts, "alwayson_scripts", None) or ():
        for name in names:
            if getattr(type(script), name, None) is not getattr(scripts.Script, name):
                return (
                    f"{script_title(getattr(script, 'filename', None))} has its own way with finished images ({name})"
                )
    return None


def _are_equal(one: Any, other: Any) -> bool:
    """Tell whether these are the same latents or decoded images: tensors, or lists of them."""
    if len(one) != len(other):
        return False
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -- the pictures ------------------------------------------------


def _unerased(place: Place, picture: Image.Image, text: str) -> Picture:
    return Picture(_WITHOUT, picture, picture, "-without-erasure", SAVE_BEFORE, place, text=text)


def _attention(generation: Generation, number: int, place: Place, result: Image.Image) -> Iterator[Picture]:
    # what draws is not imported before it is needed: the WebUI's start is not to wait for it
    from lib_gie.pictures.attention import Region, explained, overlay, region_map, step_maps, steps_sheet

    plan, recorder = generation.plans[number], generation.recorders.get((number, place[0]), AttentionRecorder())
    rows = [row for row in recorder.rows() if isinstance(row, tuple) and row[0] == place[1]]
    found, below = generation.found(number, *place), result.convert("RGB")
    region = Region(*below.size, box=getattr(generation.p, "paste_to", None))
    for k, concept in enumerate(plan.request.concepts):
        if not rows:
            return
        average = region_map(recorder, k, rows, region)  # [H, W]
        text = f"{concept.text}, scale {_scale_text(found, k)}"
        suffix = f"-attention-{k + 1}"
        yield Picture(
            f"attention: {concept.text}", explained(below, average, text), overlay(below, average), suffix,
            SAVE_ATTENTION, place, [result],
        )  # fmt: skip
        steps = steps_sheet(below, step_maps(recorder, k, rows, region), text)
        yield Picture("", steps, None, f"{suffix}-steps", SAVE_ATTENTION, place, [result])


def _scale_text(found: FoundScales | None, concept: int) -> str:
    values = [f"{value:.2f}" for row in ([] if found is None else found.scales) for value in row[concept]]
    return ", ".join(dict.fromkeys(values)) or "?"


def _sheet(generation: Generation, number: int, rows: list[Any]) -> Picture:
    """Draw the job's images with and without erasure on one sheet, but for those that lack one of the columns."""
    from lib_gie.pictures import SheetRow, contact_sheet

    p, request = generation.p, generation.plans[number].request
    columns = [[shown for shown in row if shown.small is not None] for *_, row in rows]
    headings = [shown.heading for shown in max(columns, key=len)]
    lines, sources, at = [], [], int(headings[0] == _WITHOUT)
    for ((batch, image), result, _), row in zip(rows, columns, strict=True):
        if [shown.heading for shown in row] != headings:
            continue
        seed = p.all_seeds[batch * p.batch_size + image]
        small = [shown.small for shown in row]
        small.insert(at, result.convert("RGB"))
        lines.append(SheetRow(f"seed {seed}", f"erase: {concepts_text(request.concepts)}", small))
        sources += [result, *(shown.picture for shown in row if shown.setting == SAVE_BEFORE)]
    headings.insert(at, "with")
    sheet = contact_sheet(headings, lines, side=min(512, max(192, *rows[0][1].size)))
    return Picture("", sheet, None, "-sheet", None, None, sources)


# -- infotexts ------------------------------------------------


def _pad_infotexts(processed: Any) -> None:
    """Give every image an infotext: the WebUI has none for masks."""
    lacking = len(processed.images) - len(processed.infotexts)
    processed.infotexts += [processed.info] * max(0, lacking)


def _infotext(p: Any, place: Place) -> str:
    """Return the infotext of an image of the job."""
    text: str = processing.create_infotext(
        p, p.all_prompts, p.all_seeds, p.all_subseeds, iteration=place[0], position_in_batch=place[1]
    )
    return text
