"""Parts of Markdown pages that commands write: between a line that names the command and an end line."""

from __future__ import annotations

from pathlib import Path

from lib_gie.errors import OptionError

from .outputs import check_file, write_file

END = "<!-- end -->"


def begin(command: str) -> str:
    """Return the line after which a command's part starts."""
    return f"<!-- made by python -m lib_gie {command} -->"


def around(page: Path, command: str) -> tuple[str, str]:
    """Return the page's text before and after the command's part.

    Raises OptionError where the page has no such part or cannot be written.
    """
    check_file("--page", page)
    if not page.exists():
        raise OptionError(
            f"--page is {page}, and there is no such file; name a Markdown page with a part for the tables"
        )
    first = begin(command)
    try:
        before, found, rest = page.read_text(encoding="utf-8").partition(first) if page.is_file() else ("", "", "")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{page} cannot be read ({error}); name a Markdown page in UTF-8") from error
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise OptionError(f"{page} lacks the lines {first!r} and {END!r} between which the tables go; write both there")
    return before, after


def write_part(page: Path, command: str, text: str) -> None:
    """Replace the command's part of the page. Raises OptionError where the page has none."""
    before, after = around(page, command)
    write_file(page, f"{before}{begin(command)}\n\n{text}\n\n{END}{after}".encode())
