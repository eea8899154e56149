"""The documentation site has every page of the project, and the links between them hold. Nothing of mkdocs is needed.

``make docs`` builds the site and checks more: the names in the API reference, the diagrams.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import runpy
from pathlib import Path

import pytest
import yaml

import lib_gie

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "lib_gie", "models", "scripts", "tests")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(found for folder in FOLDERS for found in (ROOT / folder).rglob("*.md")))
)
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def load_hooks():
    spec = importlib.util.spec_from_file_location("docs_site_hooks", ROOT / "docs" / "site" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


HOOKS = load_hooks()
LISTED = runpy.run_path(str(ROOT / "docs" / "site" / "parameter_lists.py"))["listed"]


def text_of(page: str) -> str:
    """A page without its code, in which brackets are no links and signs no headings or lists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors_of(page: str) -> list[str]:
    return [HOOKS.anchor(heading) for heading in re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)]


def problem_with(link: str, page: str) -> str | None:
    """What is wrong with a link on a page, or None."""
    if re.match(r"https?://|mailto:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
    if not target.is_file() or not target.is_relative_to(ROOT):
        return f"{link}: there is no such file"
    name = target.relative_to(ROOT).as_posix()
    if name not in PAGES and not name.startswith("docs/"):
        return f"{link}: the site has pages and what is in docs/, and no other files; name the file without a link"
    if anchor and anchor not in anchors_of(name):
        return f"{link}: {name} has no such heading; it has {', '.join(anchors_of(name))}"
    return None


# -- the nav ------------------------------------------------


def test_the_nav_has_every_page_once_and_nothing_else():
    assert sorted(HOOKS.pages_in(CONFIG["nav"])) == PAGES


def test_the_build_is_strict_about_every_kind_of_link():
    kinds = ("omitted_files", "absolute_links", "unrecognized_links", "anchors")
    assert [CONFIG["validation"][kind] for kind in kinds] == ["warn"] * len(kinds)
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nmake docs\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_files_that_the_configuration_names_are_there():
    for name in (*CONFIG["hooks"], *CONFIG["extra_css"]):
        assert (ROOT / name).is_file(), name


# -- pages ------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_hold(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    assert [found for found in (problem_with(link, page) for link in links) if found] == []


@pytest.mark.parametrize("page", sorted({*PAGES} - {"README.md", "CHANGELOG.md"}))
def test_a_page_says_first_whom_it_is_for_and_what_they_can_do_then(page):
    """README.md says what the project is, and CHANGELOG.md is a list."""
    title, first, *_ = (ROOT / page).read_text(encoding="utf-8").split("\n\n")
    assert title.startswith("# ")
    assert first.startswith("This page is for ")
    assert page.startswith("docs/api/") or re.search(r"\bAfter\s+reading\s+it\s+you\b", first)


@pytest.mark.parametrize("page", PAGES)
def test_lists_and_tables_follow_an_empty_line(page):
    """GitHub shows them without one, and the site shows them as part of the paragraph before."""
    wrong, before = [], ""
    for line in text_of(page).splitlines():
        starts = re.match(r"(?:[-*] |\d+\. |\|)", line)
        if starts and before.strip() and not re.match(r"[-*] |\d+\. |\|| ", before):
            wrong.append(line)
        before = line
    assert wrong == []


def test_a_broken_link_is_found():
    assert "no such file" in problem_with("NOTHING.md", "README.md")
    assert "no such heading" in problem_with("README.md#nothing", "README.md")
    assert "without a link" in problem_with("LICENSE", "README.md")
    assert problem_with("../SECURITY.md#how-to-report", "docs/GUIDE.md") is None
    assert problem_with("images/webui.png", "docs/GUIDE.md") is None


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("X/Y/Z plot", "xyz-plot"),
        ("It erases too little, or too much", "it-erases-too-little-or-too-much"),
        ("A UNet of SD 1.5's size", "a-unet-of-sd-15s-size"),
        ("One & two", "one--two"),
        ("`lib_gie` and more", "lib_gie-and-more"),
    ],
)
def test_anchors_are_github_s(heading, anchor):
    assert HOOKS.anchor(heading) == anchor


# -- what the site shows ------------------------------------------------


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs/api/lib_gie.md").read_text(encoding="utf-8")
    for name in lib_gie.__all__:
        assert f"::: lib_gie.{name}\n" in page or f"`lib_gie.{name}`" in page, name


@pytest.mark.parametrize(
    ("docstring", "shown"),
    [
        ("Return it. ``a``: one\nthing. ``b``, ``c``: two.", "Return it.\n\n- ``a``: one thing.\n- ``b``, ``c``: two."),
        ("Do it.\n\n``a``: one. So it is.\nRaises GieError.", "Do it.\n\n- ``a``: one. So it is.\n\nRaises GieError."),
        ("One. ``a``: its kind; ``b`` (a text):\nits key.", "One.\n\n- ``a``: its kind\n- ``b`` (a text): its key."),
        ("Return what ``a`` says, see\n``b``: it is so.", "Return what ``a`` says, see\n``b``: it is so."),
        ("Do it.\n\n    ``a``: code", "Do it.\n\n    ``a``: code"),
    ],
)
def test_parameters_are_shown_as_a_list(docstring, shown):
    assert LISTED(docstring) == shown


def test_every_parameter_of_the_pipeline_context_is_in_the_list():
    shown = LISTED(inspect.getdoc(lib_gie.GrowthInhibitors))
    entries = " ".join(line.partition(":")[0] for line in shown.splitlines() if line.startswith("- "))
    for name in inspect.signature(lib_gie.GrowthInhibitors).parameters:
        assert f"``{name}``" in entries, name


def test_the_site_s_reference_is_made_with_these_lists():
    options = next(plugin for plugin in CONFIG["plugins"] if "mkdocstrings" in plugin)["mkdocstrings"]
    extensions = options["handlers"]["python"]["options"]["extensions"]
    assert extensions == ["docs/site/docstrings.py"]
    assert "parameter_lists.py" in (ROOT / extensions[0]).read_text(encoding="utf-8")


def test_pages_that_load_from_another_machine_are_found():
    loading = '<script src="https://b.example/x.js"></script><link rel="stylesheet" href=//a.example/x.css>'
    assert HOOKS.loads_from_elsewhere(loading) == ["//a.example/x.css", "https://b.example/x.js"]
    own = '<a href="https://a.example">x</a><link href="x.css"><script src="../x.js"></script><img src="x.png">'
    assert HOOKS.loads_from_elsewhere(own) == []
    assert CONFIG["theme"]["font"] is False
