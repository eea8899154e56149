"""What mkdocs.yml cannot say: pages from all over the project, GitHub's anchors, and diagrams drawn at build time.

Every page has the path in the site's sources that it has in the project. So a link between two pages, which GitHub
follows, holds in the site as it stands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_LOADS = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


def pages_in(nav: Any) -> Iterator[str]:
    """Yield the path of each page in a nav as mkdocs.yml has it."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_in(entry)


def anchor(heading: str, separator: str = "-") -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> None:
    """Set what mkdocs.yml would need Python's names for."""
    fences = [{"name": "mermaid", "class": "diagram", "format": draw}]
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": fences}
    config.mdx_configs["toc"]["slugify"] = anchor


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the site's files: those of docs/ under docs/, and the nav's pages from elsewhere in the project."""
    from mkdocs.structure.files import File, Files

    root = Path(config.config_file_path).parent
    folder = Path(config.docs_dir).relative_to(root).as_posix()

    def of_project(path: str) -> File:
        return File(path, str(root), config.site_dir, config.use_directory_urls)

    of_docs = [file for file in files if file.src_dir == config.docs_dir]
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    moved = [of_project(f"{folder}/{file.src_uri}") for file in of_docs]
    outside = [of_project(path) for path in pages_in(config.nav) if not path.startswith(f"{folder}/")]
    return Files([*of_theme, *moved, *outside])


def draw(source: str, language: str, css_class: str, options: Any, md: Any, **more: Any) -> str:
    """Return the HTML of a Mermaid diagram: it is drawn here, so that the page needs no script from elsewhere.

    Raises SuperFencesException where it cannot be drawn: other errors would show the source in its place.
    """
    import mermaidx
    from pymdownx.superfences import SuperFencesException

    number = hashlib.sha256(source.encode()).hexdigest()[:8]
    try:
        picture = mermaidx.render(source).svg().replace("my-svg", f"diagram-{number}")
    except Exception as error:
        raise SuperFencesException(f"the diagram that begins {source[:60]!r} cannot be drawn: {error}") from error
    return f'<div class="{css_class}">{picture}</div>'


def loads_from_elsewhere(html: str) -> list[str]:
    """Return the addresses on other machines from which a page of HTML loads something."""
    return sorted(set(_LOADS.findall(html)))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> None:
    """Raise PluginError where a page would load something from another machine."""
    from mkdocs.exceptions import PluginError

    found = loads_from_elsewhere(output)
    if found:
        raise PluginError(
            f"{page.file.src_uri} would load {', '.join(found)} when somebody reads it; the site must be "
            f"readable offline. Put the file into docs/ and name it there"
        )
