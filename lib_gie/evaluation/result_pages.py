"""The pages that show a comparison: docs/RESULTS.md for the main kinds of prompt, docs/RESULTS_KINDS.md for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib_gie.demo.sampling_settings import CFG, STEPS
from lib_gie.demo.world.splits import KINDS

from .comparison import NEGPIP, SEGA, Comparison, tried_settings
from .figures import table
from .generate import Job
from .measures import MAIN, errors_table, kinds_table, methods_table
from .page_parts import UNCERTAINTY, made_by, method_points, paragraph, points

_MEANINGS = {
    "named": "has the name of the thing to erase",
    "implied": "is about a scene that the thing belongs to",
    "synonym": "calls the thing by another name",
    "described": "describes the thing without a name",
    "neighbour": "has a harmless thing that is near to the concept, alone or beside it",
    "styled": "names the thing in a picture of some style",
    "long": "names the thing among many words that mean nothing",
    "several": "names two or three things, and all of them are erased",
    "unrelated": "has nothing to do with the concept",
    "style named": "has the name of the style to erase",
    "style implied": "implies the style by a painter's name or a period",
    "style unrelated": "is in another style than the one to erase, or in none",
}
"""What a prompt of each kind is, after "the prompt"."""


_REPLACED = (
    "**Replaced**: of the images that {what} erased from, those with an object, or one more copy of an object, "
    "that was not there without erasure."
)
_SURE = UNCERTAINTY.format(mean=", and the normal one for SSIM")


def main_page(comparison: Comparison, command: str) -> str:
    """Return the text of docs/RESULTS.md. ``command``: the one that makes it."""
    return main_text(
        command,
        model=comparison.model,
        images=len(comparison.jobs),
        names=list(comparison.after),
        rows=methods_table(comparison.rows),
        errors=errors_table(comparison.rows),
        concepts=comparison.concepts(),
        outside=comparison.outside(),
    )


def main_text(
    command: str,
    *,
    model: str,
    images: int,
    names: Sequence[str],
    rows: str,
    errors: str,
    concepts: Sequence[str],
    outside: str,
) -> str:
    """Return the text of docs/RESULTS.md from its tables. ``names``: the methods; ``outside``: may be empty."""
    drawn = f"Its checkpoint is {model}, with {STEPS} steps and CFG scale {CFG:g}: {images} images per method."
    parts = [
        "# Results", paragraph(_MAIN_IS_FOR), made_by(command, drawn),
        "## How to read the figures", paragraph(_TWICE), points([f"**{one}**: it {_MEANINGS[one]}." for one in MAIN]),
        paragraph("The columns of the tables are:"), points(_MAIN_COLUMNS), paragraph(_SURE),
        "## The methods", method_points(names), *_chosen(names),
        "## All concepts together", rows, *((paragraph(_ERRORS), errors) if errors else ()),
        *(("## Concept by concept", *concepts) if concepts else ()),
        *(("## Where the composition is kept", paragraph(_OUTSIDE), outside) if outside else ()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _chosen(names: Sequence[str]) -> list[str]:
    """Return how the settings of the others' methods were chosen, where these are compared."""
    chosen = [name for name in (NEGPIP, SEGA) if name in names]
    if not chosen:
        return []
    heads = tuple(name.partition(" ")[0] for name in chosen)
    tried = ", ".join(name for name in tried_settings() if name.startswith(heads))
    were = "was" if len(chosen) == 1 else "were"
    return [paragraph(f"{' and '.join(chosen)} {were} chosen on the validation prompts, with one seed, among {tried}.")]


def kinds_page(comparison: Comparison, command: str) -> str:
    """Return the text of docs/RESULTS_KINDS.md. ``command``: the one that makes it."""
    tables = {name: kinds_table(own) for name, own in comparison.by_method().items()}
    return kinds_text(command, model=comparison.model, kinds=_examples(comparison.jobs), tables=tables)


def kinds_text(command: str, *, model: str, kinds: str, tables: Mapping[str, str]) -> str:
    """Return the text of docs/RESULTS_KINDS.md from its tables: that of the kinds, and one by each method's name."""
    drawn = f"Its checkpoint is {model}, with {STEPS} steps and CFG scale {CFG:g}."
    parts = [
        "# Results by kind of prompt", paragraph(_KINDS_IS_FOR), made_by(command, drawn),
        "## The kinds of prompt", paragraph(_ASKS), kinds,
        "## How to read the figures", paragraph(_TWICE_STYLES), points(_KINDS_COLUMNS), paragraph(_SURE),
        "## The methods", method_points(list(tables)), paragraph(_NO_ROW),
        *(part for name, own in tables.items() for part in (f"## {name}", own)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _examples(jobs: Sequence[Job]) -> str:
    """Return a table of the jobs' kinds of prompt, each with its first prompt."""
    first = {job.prompt.kind: job for job in reversed(jobs)}
    lines = [
        (kind, _MEANINGS[kind], f"`{first[kind].prompt.text}`", first[kind].concept) for kind in KINDS if kind in first
    ]
    return table(("prompts", "the prompt ...", "an example", "erased from it"), lines)


# -- docs/RESULTS.md ------------------------------------------------

_MAIN_IS_FOR = (
    "This page is for people who want to know how well erasing works, and who compare it with other ways. After "
    "reading it you can say for each method how often the erased thing is still there, what else is lost, and how sure "
    "that is."
)
_TWICE = (
    "Each prompt's image is made twice from the same seed: without and with erasure. The demo model's detector says "
    "which objects both show. There are three kinds of prompt:"
)
_MAIN_COLUMNS = (
    "**Erased object left**: of the images that show the concept without erasure, those that still show it. The fewer, "
    "the better.",
    "**Other objects kept**: of the prompt's other objects that show without erasure, those that still show. The more, "
    "the better.",
    "**Images unharmed**: the images in which every object beside the concept that shows without erasure still shows, "
    "on a background in the same style. The more, the better.",
    _REPLACED.format(what="the concept was"),
    "**SSIM**: how like the image is to the one without erasure (Wang et al., 2004). 1 means that both are the same. "
    "It is measured on prompts that have nothing to do with the concept.",
)
_ERRORS = (
    "The next table adds up six shares: what is left of the concept for named and for implied prompts, what is lost of "
    "the other objects for each of the three kinds, and the unrelated images that are harmed. The smaller, the better."
)
_OUTSIDE = (
    "These methods keep the composition: the erased image takes over the prompt's attention and the small "
    "self-attention maps of the image without erasure. Of the images that the concept was erased from, the table has "
    "the SSIM to the image without erasure, without the boxes of the erased objects."
)

# -- docs/RESULTS_KINDS.md ------------------------------------------------

_KINDS_IS_FOR = (
    "This page is for people who know what their prompts are like, and want to know whether erasing works for such "
    "prompts. After reading it you can say for each kind of prompt how well a concept is erased, and what else is "
    "harmed. [RESULTS.md](RESULTS.md) compares more methods on the main kinds."
)
_ASKS = (
    "A concept is a thing, such as a knife, or a style, such as a pencil sketch. A prompt can ask for it in many ways: "
    "by its name, by another word, or by a scene that it belongs to."
)
_TWICE_STYLES = (
    "Each prompt's image is made twice from the same seed: without and with erasure. The demo model's detector says "
    "which objects and which styles both show. The columns of the tables are:"
)
_KINDS_COLUMNS = (
    "**Left**: of the prompt's concepts that show without erasure, those that still show. The fewer, the better.",
    "**Kept**: of the prompt's other objects that show without erasure, those that still show. The more, the better. "
    'In the row "neighbour" it is the neighbour alone.',
    "**Unharmed**: the images in which every object that is not erased still shows, on a background in the same style. "
    "The more, the better. Where a style that showed was erased, the background may change.",
    "**Style kept**: of the images in a style that the prompt asks for and that is not erased, those that are still in "
    "it. The more, the better.",
    _REPLACED.format(what="things were"),
    "**SSIM**: how like the image is to the one without erasure (Wang et al., 2004). 1 means that both are the same. "
    "It is measured on prompts without the concept.",
)
_NO_ROW = (
    "A method has no row where it has nothing to erase with. Each thing and some styles have an adapter, and the joint "
    "adapter is for things alone."
)
