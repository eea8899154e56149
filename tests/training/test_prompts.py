"""Lists of prompts: those that come with the project, and a user's own."""

from __future__ import annotations

import pytest

from lib_gie.demo.words import is_style
from lib_gie.demo.world.captions import unknown_words
from lib_gie.demo.world.concepts import STYLE_OF
from lib_gie.demo.world.things import OBJECTS
from lib_gie.errors import OptionError
from lib_gie.named import times_named
from lib_gie.training.prompts import (
    KINDS,
    bare,
    load_prompts,
    parse_prompts,
    samples_of,
    starter_list,
    starter_list_for,
    starter_lists,
    webui_syntax,
)
from lib_gie.training.prompts.doubts import doubts


def test_starter_lists_have_every_kind():
    assert starter_lists() == ["artist-style", "demo-object", "demo-style", "nudity", "object", "violence"]
    for name in starter_lists():
        prompts = load_prompts(name, "van gogh style")
        counts = {kind: sum(found == kind for _, found in prompts) for kind in KINDS}
        assert counts["explicit"] >= 15
        assert counts["unrelated"] >= 15
        assert counts["implicit"] >= 10 or name.endswith("object") or name.startswith("demo-")
        assert not any("{" in prompt for prompt, _ in prompts)


@pytest.mark.parametrize(
    ("concept", "name"), [*((one, "demo-object") for one in OBJECTS), *((one, "demo-style") for one in STYLE_OF)]
)
def test_the_lists_for_the_demo_model_serve_whatever_it_knows(concept, name):
    """Prompts that name a concept are unrelated to all others alone, and there are enough for every concept."""
    assert starter_list_for(concept, is_demo=True, is_style=is_style(concept)) == name
    prompts = load_prompts(name, concept)
    assert doubts(prompts, concept) == []
    assert not any(unknown_words(prompt) for prompt, _ in prompts)
    explicit, unrelated = ([prompt for prompt, found in prompts if found == kind] for kind in ("explicit", "unrelated"))
    assert all(times_named(prompt, concept) for prompt in explicit)
    section = starter_list(name).rpartition("[unrelated unless named]")[2].split("\n")
    left = [line for line in filter(None, section) if not times_named(line, concept)]
    assert unrelated == list(dict.fromkeys(left))
    assert len(left) > 50


def test_of_a_list_for_many_concepts_those_that_name_it_are_left_out():
    text = "a {concept}\n[Unrelated unless named]\na cat\na dog\na dog and a cat\na cathedral\n[unrelated]\na tree"
    assert parse_prompts(text, "cat") == [
        ("a cat", "explicit"), ("a tree", "unrelated"), ("a dog", "unrelated"), ("a cathedral", "unrelated"),
    ]  # fmt: skip
    assert ("a cat", "unrelated") in parse_prompts(text, "dog")


def test_a_list_all_of_whose_prompts_are_left_out_says_so():
    with pytest.raises(OptionError, match=r"no prompts but those under \[unrelated unless named\] that name 'cat'"):
        parse_prompts("[unrelated unless named]\na cat\na CAT on a mat", "cat")


@pytest.mark.parametrize(
    ("concept", "article"),
    [
        ("apple", "an"), ("Umbrella", "an"), ("unimportant thing", "an"), ("unidentified object", "an"),
        ("onion", "an"),
        ("hourglass", "an"), ("honest face", "an"), ("éclair", "an"), ("urn", "an"), ("usher", "an"),
        ("only child", "an"),
        ("cat", "a"), ("unicorn", "a"), ("used car", "a"), ("European city", "a"), ("one-eyed man", "a"),
        ("house", "a"),
        ("ukulele", "a"), ("UFO", "a"), ("ewe", "a"), ("uranium rod", "a"), ("", "a"), ("1970s car", "a"),
    ],
)  # fmt: skip
def test_the_article_before_a_concept(concept, article):
    found = parse_prompts("a {concept}\nA {concept} in a street\nan {concept}, the {concept}", concept)
    assert [prompt for prompt, _ in found] == [
        f"{article} {concept}", f"{article.capitalize()} {concept} in a street", f"an {concept}, the {concept}"
    ]  # fmt: skip


def test_what_such_a_list_has_elsewhere_as_well_is_of_that_kind():
    """In whatever order the sections are."""
    parts = "[unrelated unless named]\na pub\na tree", "[implicit]\na pub", "[unrelated]\na tree"
    for order in (parts, parts[::-1]):
        found = dict(parse_prompts("\n".join(order), "beer"))
        assert found == {"a pub": "implicit", "a tree": "unrelated"}


@pytest.mark.parametrize("line", ["[unrelated unless named", "unrelated unless named:", "[unrelated_unless_named]",
                                  "[UNRELATED UNLESS NAME]"])  # fmt: skip
def test_nearly_such_a_section_is_no_prompt(line):
    with pytest.raises(OptionError, match=r"must be one of .*\[unrelated unless named\]"):
        parse_prompts(f"a pub\n{line}\na cat", "beer")
    assert dict(parse_prompts("a pub\n[ Unrelated  unless named ]\na cat", "beer"))["a cat"] == "unrelated"


@pytest.mark.parametrize(("concept", "prompt"), [("apple", "an apple, a banana"), ("Umbrella", "an Umbrella, a banana"),
                                                 ("cat", "a cat, a banana")])  # fmt: skip
def test_the_article_suits_the_concept(concept, prompt):
    assert parse_prompts("a {concept}, a banana", concept) == [(prompt, "explicit")]
    assert parse_prompts("A {concept} in panama {concept}", "ant") == [("An ant in panama ant", "explicit")]


def test_the_concept_takes_its_place():
    assert ("a castle on a hill, van gogh style", "explicit") in load_prompts("artist-style", "van gogh style")


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a knife\n\n# no prompt\n[implicit]\na robbery\na robbery\n[unrelated]\na cat\n", encoding="utf-8")
    prompts = load_prompts(path, "knife")
    assert prompts == [("a knife", "explicit"), ("a robbery", "implicit"), ("a cat", "unrelated")]
    samples = samples_of(prompts, range(2))
    assert [(sample.prompt, sample.seed) for sample in samples[:3]] == [
        ("a knife", 0),
        ("a knife", 1),
        ("a robbery", 0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no prompts"), ("# x\n[implicit]", "no prompts"), ("a\n[rude]\nb", "line 2 .* is .rude.")],
)
def test_bad_lists(text, message):
    with pytest.raises(OptionError, match=message):
        parse_prompts(text, "knife")


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(OptionError, match="one of artist-style, demo-object"):
        load_prompts("nowhere", "knife")
    path = tmp_path / "picture.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot be read"):
        load_prompts(path, "knife")


def test_labels_are_for_one_concept():
    assert bare(' "van gogh, oil":1.2') == "van gogh, oil"
    with pytest.raises(OptionError, match="names 2 concepts"):
        bare("knife, wine")


PROMPTS = [("a knife", "explicit"), ("a robbery by Čapek", "implicit"), ("a cat", "unrelated")]
LIST = "[explicit]\na knife\n[implicit]\na robbery by Čapek\n[unrelated]\na cat\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lists_as_editors_save_them(tmp_path, encoding, ending):
    path = tmp_path / "mine.txt"
    path.write_bytes(LIST.replace("\n", ending).encode(encoding))
    assert load_prompts(path, "knife") == PROMPTS


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_both_orders_of_bytes(tmp_path, mark):
    path = tmp_path / "mine.txt"
    path.write_bytes(f"\ufeff{LIST}".encode(mark))
    assert load_prompts(path, "knife") == PROMPTS


def test_a_list_that_begins_with_a_section_and_a_mark():
    """The field of the tab is given what was copied: there the mark is a letter."""
    assert parse_prompts("\ufeff[unrelated]\na cat", "knife") == [("a cat", "unrelated")]


@pytest.mark.parametrize("line", ["[unrelated]  ", "\t[Unrelated]", "[UNRELATED]", "[ unrelated ]"])
def test_sections_as_people_write_them(line):
    assert parse_prompts(f"a knife\n{line}\na cat", "knife")[1] == ("a cat", "unrelated")


@pytest.mark.parametrize(
    "line",
    [
        "[unrelatd]",
        "[not related]",
        "[un-related]",
        "[unrelated]:",
        "unrelated:",
        "[unrelated",
        "\uff3bunrelated\uff3d",
        "[]",
    ],
)
def test_what_is_nearly_a_section_is_no_prompt(line):
    with pytest.raises(OptionError, match="line 2 of the list is"):
        parse_prompts(f"a knife\n{line}\na cat", "knife")


@pytest.mark.parametrize(
    "line", ["[a cat:a dog:0.5]", "[cat|dog]", "unrelated", "a [bad] cat", "an unrelated cat", "[a] [b]"]
)
def test_prompts_with_brackets(line):
    assert parse_prompts(f"[unrelated]\n{line}", "knife") == [(line, "unrelated")]


def test_a_prompt_in_two_sections_is_refused():
    with pytest.raises(
        OptionError, match=r"line 4 of the list has 'a knife' under \[unrelated\], .* under \[explicit\]"
    ):
        parse_prompts("a {concept}\na {concept}\n[unrelated]\na knife", "knife")


def test_what_the_webui_reads_as_something_else():
    for text, found in (
        ("a <lora:style:0.5> cat", "<lora:style:0.5>"), ("<hypernet:x>", "<hypernet:x>"), ("a cat AND a dog", "AND"),
        ("[cat:dog:0.5]", "[cat:dog:0.5]"), ("[cat|dog]", "[cat|dog]"), ("a (red:1.2) cat", "(red:1.2)"),
        ("a BREAK b", "BREAK"),
    ):  # fmt: skip
        assert webui_syntax(text) == found
    for text in ("a cat and a dog", "SAND", "a cat (sleeping)", "a [b] c", "at 5:30", "1 < 2: true", "a:b, c > d"):
        assert webui_syntax(text) is None
    assert not any(webui_syntax(prompt) for name in starter_lists() for prompt, _ in load_prompts(name, "knife"))
