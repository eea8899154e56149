"""Every message of the project that a person can read, taken from the source.

``python tests/words.py`` prints the list. Python is read by ``ast``. A name stands as the text that its function or
module gives it, and what is known at run time alone stands as ``{its expression}``. Of two texts between which a
condition chooses both stand: ``[one|other]``. A string that is in no call known here, and that reads like a sentence,
is a message as well.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("lib_gie", "scripts")
SOURCES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
SCRIPTS = sorted((ROOT / "javascript").glob("*.js"))
DRAWN = "lib_gie/demo/world/"
"""What the demo model can draw: its sentences are prompts."""

KINDS = {
    "error": "what ends a command, a request or a call of the library",
    "reason": "what an error of Python's own says: another message has it as a part",
    "printed": "what a command, the WebUI's console or a progress bar says",
    "label": "the name of a field or a button",
    "help": "what the help of an option or a setting says",
    "about": "what the help of a command says of it, in whole sentences",
    "script": "what the page's script says",
    "text": "all other texts: notices, reports, notes, pages",
}


@dataclass(frozen=True)
class Message:
    """A text that a person can read. ``where``: file and line."""

    kind: str
    text: str
    where: str


def messages() -> list[Message]:
    """Return every message, in the order of the files."""
    found = []
    for path in (*SOURCES, *SCRIPTS):
        name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        found += of_script(source, name) if path.suffix == ".js" else of_python(source, name)
    return [one for one in found if not (one.kind == "text" and one.where.startswith(DRAWN))]


# -- Python ------------------------------------------------

_SENTENCE = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z]{2,}[,;:]? \w+")
_DATA = re.compile(r"\s*\w+:( |$)")
_ERROR = re.compile(r"(?<!Stopped)(Error|Exception)$")  # what somebody stops is no fault
_PYTHONS_ERRORS = {"AttributeError", "KeyError", "OSError", "RuntimeError", "TypeError", "ValueError"}
_FIRST = {
    "print": "printed", "warn": "printed", "Warning": "printed", "Info": "printed",
    "Accordion": "label", "Button": "label", "Checkbox": "label", "Tab": "label",
    "error": "error", "info": "help",
}  # fmt: skip
"""By the name that is called: the kind of its first argument."""
_NAMED = {
    "label": "label", "placeholder": "help", "help": "help", "detail": "error", "desc": "printed",
    "description": "about", "epilog": "about",
}  # fmt: skip
"""By keyword: the kind of its argument."""


def of_python(source: str, name: str) -> list[Message]:
    """Return the messages of a Python file. ``name``: what it is called in them."""
    tree = ast.parse(source)
    reader = _Reader(tree, name)
    reader.visit(tree)
    known = [message.text for message in reader.found if message.kind != "text"]
    return [one for one in reader.found if one.kind != "text" or not any(one.text in text for text in known)]


class _Reader(ast.NodeVisitor):
    """Collects the messages of one file."""

    def __init__(self, tree: ast.Module, name: str) -> None:
        self.found: list[Message] = []
        self._name = name
        self._on_page = "import gradio" in ast.unparse(tree)
        self._scopes = [_texts_of(tree)]
        self._taken: set[ast.expr] = set()

    def visit_Expr(self, node: ast.Expr) -> None:
        """Pass docstrings by."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Know the texts that the function gives its names."""
        self._scopes.append(_texts_of(node))
        self.generic_visit(node)
        self._scopes.pop()

    def visit_Call(self, node: ast.Call) -> None:
        """Take the arguments that are messages."""
        for kind, argument in _messages_of(node):
            if kind != "label" or self._on_page or _called(node) == "Option":
                self._take(kind, argument)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Take a string that reads like a sentence."""
        if isinstance(node.value, str) and node not in self._taken and _SENTENCE.search(node.value):
            self._take("text", node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Take an f-string that reads like a sentence, and look into its parts."""
        if node not in self._taken and _SENTENCE.search(self._text(node, [])):
            self._take("text", node)
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                self.visit(value.value)

    def _take(self, kind: str, node: ast.expr) -> None:
        used: list[ast.expr] = []
        text = self._text(node, used)
        if node not in self._taken and re.search(r"[A-Za-z]{2}", re.sub(r"\{.*?\}", "", text)) and not _is_data(text):
            self._taken |= {node, *used}
            self.found.append(Message(kind, text, f"{self._name}:{node.lineno}"))

    def _text(self, node: ast.expr, used: list[ast.expr]) -> str:
        """Return what an expression says. ``used``: is given the strings that it is made of."""
        if isinstance(node, ast.Constant):
            used.append(node)
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            used.append(node)
            return "".join(self._text(value, used) for value in node.values)
        if isinstance(node, ast.FormattedValue):
            plain = isinstance(node.value, ast.Constant)
            return f"{{{ast.unparse(node.value)}}}" if plain else self._text(node.value, used)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_text(node):
            return self._text(node.left, used) + self._text(node.right, used)
        if isinstance(node, ast.Call) and _called(node) == "format" and isinstance(node.func.value, ast.Constant):
            return self._text(node.func.value, used)
        if isinstance(node, ast.IfExp) and _is_text(node):
            return f"[{self._text(node.body, used)}|{self._text(node.orelse, used)}]"
        given = self._given(node)
        return "{" + ast.unparse(node) + "}" if given is None else self._text(given, used)

    def _given(self, node: ast.expr) -> ast.expr | None:
        """Return the text that a name has, or None."""
        if not isinstance(node, ast.Name):
            return None
        return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), None)


def _messages_of(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Yield a call's arguments that are messages, each with its kind."""
    called = _called(call)
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    first = _FIRST.get(called)
    if _ERROR.search(called):
        first = "reason" if called in _PYTHONS_ERRORS else "error"
    if first:
        yield from ((first, argument) for argument in call.args[:1])
    if called == "Option":
        yield from zip(("label", "about"), (*call.args[1:2], *call.args[4:5]), strict=False)
    if called == "OptionInfo":
        yield from (("label", argument) for argument in call.args[1:2])
    for word, kind in _NAMED.items():
        if word in words:
            yield ("help" if called == "Field" else kind), words[word]


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _texts_of(scope: ast.AST) -> dict[str, ast.expr]:
    """Return the names to which a scope gives one text and nothing else."""
    given: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope) if isinstance(scope, ast.FunctionDef) else ast.iter_child_nodes(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            given.setdefault(node.targets[0].id, []).append(node.value)
    return {
        name: values[0]
        for name, values in given.items()
        if len(values) == 1 and _is_text(values[0]) and name not in _names_in(values[0])
    }


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) or _is_text(node.orelse)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_data(text: str) -> bool:
    """Tell whether a text is a file's content, as YAML is."""
    lines = text.strip().splitlines()
    return len(lines) > 4 and 2 * sum(map(bool, map(_DATA.match, lines))) > len(lines)


def _names_in(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


# -- JavaScript ------------------------------------------------

_STRING = re.compile(r"""//[^\n]*|'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`""")
_SHOWN = re.compile(r"[A-Z][a-z]+(:? |$)")
_KEYS = {"Enter"}


def of_script(source: str, name: str) -> list[Message]:
    """Return the messages of a JavaScript file: its strings that begin with a capital, as no selector of CSS does."""
    found = []
    for match in _STRING.finditer(source):
        text = next((group for group in match.groups() if group is not None), "")
        if _SHOWN.match(text) and text not in _KEYS:
            line = 1 + source.count("\n", 0, match.start())
            found.append(Message("script", text.replace("${", "{"), f"{name}:{line}"))
    return found


# -- the list ------------------------------------------------


def main() -> None:
    """Print the list, a message a line."""
    parser = argparse.ArgumentParser(description="Print every message that a person can read.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--where", action="store_true", help="begin each line with the message's place")
    options = parser.parse_args()
    found = messages()
    for kind in options.kinds or KINDS:
        if kind not in KINDS:
            parser.error(f"there is no kind {kind!r}; name some of {', '.join(KINDS)}")
        print(f"\n== {kind}: {KINDS[kind]}\n")
        for message in found:
            if message.kind == kind:
                print(f"{message.where}: " * options.where + message.text.strip().replace("\n", " / "))


if __name__ == "__main__":
    main()
