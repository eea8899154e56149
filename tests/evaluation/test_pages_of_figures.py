"""The pages of figures say what their makers say, around tables that were measured. Nothing is measured here."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

from lib_gie.evaluation.methods import IMPLIED
from lib_gie.evaluation.page_parts import WIDTH, method_points
from lib_gie.evaluation.result_pages import kinds_text, main_text
from lib_gie.evaluation.varied_figures import TITLES, page_text

DOCS = Path(__file__).resolve().parents[2] / "docs"


def tables_of(text: str) -> list[str]:
    return [block for block in text.strip().split("\n\n") if block.startswith("|")]


def by_heading(text: str) -> dict[str, str]:
    """The one table under each heading of the second level that has one."""
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {heading: tables_of(own)[0] for heading, _, own in parts if tables_of(own)}


def first_column(table: str) -> list[str]:
    return list(dict.fromkeys(line.split("|")[1].strip() for line in table.splitlines()[2:]))


def rendered_main(page: str) -> str:
    """docs/RESULTS.md as its maker would print it, with the page's own tables."""
    rows, errors, *others = tables_of(page)
    concepts = [table for table in others if table.startswith("| concept (")]
    return main_text(
        command_in(page),
        model=model_in(page),
        images=int(re.search(r"(\d+)\s+images\s+per\s+method", page)[1]),
        names=first_column(rows),
        rows=rows,
        errors=errors,
        concepts=concepts,
        outside="".join(others[len(concepts) :]),
    )


def rendered_kinds(page: str) -> str:
    """docs/RESULTS_KINDS.md as its maker would print it, with the page's own tables."""
    kinds, *_ = tables_of(page)
    tables = {name: table for name, table in by_heading(page).items() if table != kinds}
    return kinds_text(command_in(page), model=model_in(page), kinds=kinds, tables=tables)


def rendered_varied(page: str) -> str:
    """docs/RESULTS_VARIED.md as its maker would print it, with the page's own tables."""
    under = by_heading(page)
    tables = {factor: under[title] for factor, title in TITLES.items() if title in under}
    names = [line.split("|")[2].strip() for table in tables.values() for line in table.splitlines()[2:]]
    return page_text(command_in(page), model=model_in(page), names=list(dict.fromkeys(names)), tables=tables)


def command_in(page: str) -> str:
    return re.search(r"^    (python -m lib_gie evaluate .+)$", page, re.MULTILINE)[1]


def methods_in(command: str) -> list[str]:
    _, _, after = command.partition(" --methods ")
    return list(itertools.takewhile(lambda word: not word.startswith("--"), shlex.split(after)))


def model_in(page: str) -> str:
    return re.search(r"checkpoint\s+(?:is\s+)?([0-9a-f]{16})", page)[1]


PAGES = {"RESULTS.md": rendered_main, "RESULTS_KINDS.md": rendered_kinds, "RESULTS_VARIED.md": rendered_varied}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_its_maker_prints(name):
    page = (DOCS / name).read_text(encoding="utf-8")
    assert tables_of(page)
    assert PAGES[name](page) == page


@pytest.mark.parametrize("name", PAGES)
def test_every_method_of_the_page_is_explained(name):
    page = (DOCS / name).read_text(encoding="utf-8")
    explained = re.findall(r"^- \*\*([^*]+)\*\*: ", page.split("\n## The methods\n")[1], re.MULTILINE)
    for method in methods_in(command_in(page)):
        assert any(method == known or method.startswith((f"{known} ", f"{known},")) for known in explained), method


def test_only_the_methods_that_are_compared_are_explained():
    said = method_points(["adapter, end 0.8", f"calibrated, {IMPLIED}", "sld max"])
    assert re.findall(r"^- (?:With )?\*\*([^*]+)\*\*", said, re.MULTILINE) == [
        "sld",
        "adapter",
        "calibrated",
        IMPLIED,
        "end",
    ]
    assert max(map(len, said.splitlines())) <= WIDTH
