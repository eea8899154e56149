"""What people read has one vocabulary and one tone. ``python tests/words.py`` prints all of it, to be read in one go.

A rule here names no message that it lets pass: mend the message, or make the rule true for its whole kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from words import KINDS, SOURCES, Message, messages, of_python, of_script

from lib_gie.hosts.webui.host.known_extensions import KNOWN_EXTENSIONS

FOUND = messages()

TERMS = {
    "erase": r"suppress\w*|remov(?:e|es|ing|al)|unlearn\w*|censor(?:s|ed|ing)?",
    "concept": r"targets?",
    "checkpoint": r"ckpts?|check points?",
    "adapter": r"MLPs?|adaptors?|regressors?",
    "calibrate": r"(?:self|auto)-?calibrat\w*",
    "fixed scale": r"(?:static|manual) scales?",
    "strength": r"intensit(?:y|ies)",
    "CFG scale": r"guidance[ _]scales?|cfg scales?|CFG (?:value|weight)s?",
    "seed": r"RNG",
    "negative prompt": r"unconditional prompts?|uncond",
    "UNet": r"U-Nets?|Unets?",
    "WebUI": r"web UI|web-UI|Web UI|Webui|webui(?![\w.-])",
    "extension": r"plug-?ins?|add-?ons?",
    "infotext": r"PNG info|generation parameters|info texts?",
    "sampling step": r"sampl(?:er|ing)'s steps?|sampler steps?|denoising steps?|diffusion steps?",
    "folder": r"director(?:y|ies)",
    "switch off": r"disabl(?:e|es|ed|ing)|turn(?:s|ed|ing)? off|deactivat\w*",
    "switch on": r"enabl(?:e|es|ing)|turn(?:s|ed|ing)? on|activat\w*",
    "untick": r"uncheck\w*",
    "text encoder": r"textencoders?|text-encoders?",
    "cross-attention": r"cross attention|crossattention",
    "colour": r"colors?",
    "cannot": r"can not|unable to|not able to|(?:not |im)possible to",
}
"""The project's terms, each with the words that would be others for it."""

FORBIDDEN = (
    r"invalid", r"illegal", r"please", r"fail(?:s|ed)? to", r"oops", r"sorry", r"unfortunately", r"n/a", r"so many",
    r"(?:un)?successful(?:ly)?", r"simply", r"obviously", r"just", r"something went wrong", r"an error occurred",
    r"unexpected(?:ly)? error", r"etc", r"e\.g", r"i\.e", r"\w+n't", r"todo", r"fixme",
    r"for (?:it|that|they|there) (?:is|are|has|have|was|were|needs?|may|would)",
)  # fmt: skip
"""Words that blame, plead, hedge or say nothing, and abbreviations."""

EXPECTING = (
    r"must", r"expected", r"at (?:most|least)", r"needs?", r"go(?:es)? with", r"takes? some of", r"works? on",
    r"(?:there|known|installed) are:? (?:the )?\{\}", r"there are:",
)  # fmt: skip
"""How a message says what was expected."""
DOING = (
    "add", "announce", "apply", "ask", "calibrate", "call", "change", "check", "choose", "clone", "correct", "delete",
    "do", "download", "draw", "emphasise", "encode", "free", "get", "give", "install", "interrupt", "keep", "leave",
    "let", "load", "look", "lower", "make", "move", "name", "open", "pip", "press", "put", "raise", "read", "restart",
    "run", "save", "say", "set", "shorten", "split", "start", "stop", "switch", "take", "tick", "train", "try", "turn",
    "type", "unfuse", "untick", "update", "use", "wait", "write",
)  # fmt: skip
"""Verbs with which a message says what to do. A verb that is missing here may be added."""

NO_FAULT = (r"(?:was|were) (?:stopped|interrupted)", r"(?:is|are) not shown")
"""How a message says that somebody stopped something, or that a picture beside the results is missing: nothing is to be
done then."""

NAMES = (
    *(extension.name for extension in KNOWN_EXTENSIONS),
    "Forge", "GrowthInhibitors", "IP-Adapter", "NudeNet", "SDXL", "UNet",
)  # fmt: skip
"""Names with which a message may begin, though their first letter is a capital."""


def of_kind(*kinds: str) -> list[Message]:
    return [message for message in FOUND if message.kind in kinds]


def bare(text: str) -> str:
    """A text without what is known at run time alone, and without addresses, names of files and options of commands."""
    text = re.sub(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", "{}", text)
    return re.sub(r"`[^`]*`|https?://\S+|[\w.]*[/_][\w./]*|--[\w-]+", "{}", text)


def find(patterns: Iterable[str], text: str) -> list[str]:
    """What patterns match in a text, as whole words."""
    return [match[0] for pattern in patterns for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", text)]


# -- rules: each returns what is to be changed ------------------------------------------------


def words(text: str) -> list[str]:
    """The project's terms, and no others for them; no words that say nothing."""
    wrong = [f"leave out {word!r}" for word in find(FORBIDDEN, bare(text).lower())]
    return wrong + [
        f"{word!r} is called {term!r}" for term, others in TERMS.items() for word in find([others], bare(text))
    ]


def one_line(text: str) -> list[str]:
    """One line, in which one space is between two words."""
    return ["put it into one line, with single spaces"] if re.search(r"\s\s|[\n\t]", bare(text)) else []


def no_end(text: str) -> list[str]:
    """No stop at the end: a message may stand within another."""
    return ["end it without a stop"] if re.search(r"(?<!\.\.)[.!;:,]$", text) else []


def sentences(text: str) -> list[str]:
    """Whole sentences."""
    return [] if text.endswith((".", "}")) else ["end it with a full stop"]


def small(text: str) -> list[str]:
    """A small first letter, unless a name is the first word."""
    return ["begin it with a small letter"] if re.match(r"[A-Z][a-z]", text) and not text.startswith(NAMES) else []


def capital(text: str) -> list[str]:
    """A capital as the first letter."""
    return ["begin it with a capital"] if re.match(r"[a-z]", text) else []


def helpful(text: str) -> list[str]:
    """What was found, and then what was expected or what to do, unless this hands on what another message says."""
    if find([r"error|reason|notice|said|why"], " ".join(re.findall(r"\{([^{}]*)\}", text))):
        return []
    plain = bare(text)
    does = rf"(?:[;:.,(] |\b(?:and|or|so|then) )(?:do not |(?:and|or|so|then) )?(?:{'|'.join(DOING)})\b"
    if find((*EXPECTING, *NO_FAULT), plain) or re.search(does, plain, re.IGNORECASE):
        return []
    return ["say what was expected (EXPECTING), or what to do (DOING), after what was found"]


RULES = {
    words: tuple(KINDS),
    one_line: ("error", "reason", "label", "help", "script"),
    no_end: ("error", "reason", "label", "help", "script"),
    sentences: ("about",),
    small: ("error", "reason", "help"),
    capital: ("label", "script"),
    helpful: ("error",),
}
"""Which kinds a rule is for."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_message_keeps_the_rule(rule):
    wrong = [f"{one.where}: {problem}: {one.text}" for one in of_kind(*RULES[rule]) for problem in rule(one.text)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (words, "the file is invalid; get it again"),
        (words, "the weights couldn't be read; get them again"),
        (words, "the concept was suppressed"),
        (words, "there is no such directory"),
        (words, "nothing was erased, for it is unknown which rows are conditional"),
        (words, "the CFG value is 0; set the CFG scale to 1"),
        (one_line, "one\ntwo"),
        (one_line, "one  two"),
        (no_end, "the concept is empty."),
        (no_end, "erase it!"),
        (sentences, "Leave it out"),
        (small, "The concept is empty; name one"),
        (capital, "scale"),
        (helpful, "the UNet was called without latents; its rows cannot be counted"),
        (helpful, "{name} is broken"),
        (helpful, "there is no adapter {name}"),
        (helpful, "{url} has not answered; is it busy?"),
    ],
)
def test_a_rule_finds_what_breaks_it(rule, text):
    assert rule(text)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (words, "{self.target} is in {options.out_directory}; the WebUI's webui-user.sh names it, as --no-webui does"),
        (no_end, "it lacks {', '.join(names)} and more ..."),
        (no_end, "Was it there?"),
        (small, "{name} is empty; name one"),
        (small, "Regional Prompter changes the prompt; switch it off"),
        (helpful, "the scale is {value}; it must be below 0"),
        (helpful, "another extension does it: switch it off"),
        (helpful, "so it is not known. Its admin must choose one"),
        (helpful, "the presets stay as they were: {error}"),
        (helpful, "it was stopped before the image was done"),
    ],
)
def test_a_rule_lets_others_pass(rule, text):
    assert rule(text) == []


# -- what is a message ------------------------------------------------


def texts(source: str) -> list[tuple[str, str]]:
    return [(message.kind, message.text) for message in of_python(source, "here.py")]


def test_messages_are_known_by_the_call_that_they_are_in():
    assert texts('raise OptionError(f"a is {a!r}; " + "it must be b")') == [("error", "a is {a}; it must be b")]
    assert texts('raise ValueError("it is no text")') == [("reason", "it is no text")]
    assert texts('parser.add_argument("--out", help="folder to write to")') == [("help", "folder to write to")]
    assert texts('import gradio as gr\ngr.Button("Train", elem_id="x")') == [("label", "Train")]
    assert texts('print(f"wrote {path}", file=sys.stderr)') == [("printed", "wrote {path}")]
    assert texts('notes.append("nothing was erased")') == [("text", "nothing was erased")]


def test_names_stand_as_their_texts():
    source = 'KIND = "knife"\ndef f(found):\n    end = "s" if found else ""\n    raise GieError(f"{KIND}{end} {found}")'
    assert texts(source)[0] == ("error", "knife[s|] {found}")


def test_names_and_docstrings_are_no_messages():
    assert texts('"""What this module is for."""\nkind = "image_maker"\nfound = "to_q.weight" in names') == []


def test_a_script_s_messages_begin_with_a_capital():
    source = "say('Show the fields'); // 'Not a message'\nfind('.label-wrap'); log(`Training: ${error}`);"
    assert [one.text for one in of_script(source, "here.js")] == ["Show the fields", "Training: {error}"]


def test_every_kind_is_found_and_every_part_of_the_project():
    assert {one.kind for one in FOUND} == set(KINDS)
    folders = {path.parts[-2] for path in SOURCES if "lib_gie" in path.parts}
    for part in ("core", "cli", "diffusers", "page", "training", "shown", "diagnosis"):
        assert part in folders
        assert any(f"/{part}/" in one.where for one in FOUND), part
