"""The demo world: things, styles, captions, scenes, the detector and the splits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lib_gie.assets import WORLD_SPLITS
from lib_gie.demo.pool import CHUNK, draw_pool
from lib_gie.demo.text import LENGTH, ReducedVocabulary, load_tokenizer
from lib_gie.demo.world import fitting, splits
from lib_gie.demo.world.captions import FILLERS, Shares, sample_caption, unknown_words, without_things, words
from lib_gie.demo.world.concepts import CONCEPTS, STYLE_OF
from lib_gie.demo.world.detector import look, look_at_picture
from lib_gie.demo.world.scenes import (
    BACKGROUNDS,
    IMPLICIT,
    Scene,
    draw,
    draw_scene,
    painted,
    paste,
    places,
    sample_scene,
)
from lib_gie.demo.world.styles import NAMED_STYLES, STYLES
from lib_gie.demo.world.things import NEIGHBOURS, OBJECTS, UNWANTED, WANTED, article
from lib_gie.errors import GieError

PLAIN_WORDS = Shares(synonym=0, described=0, filled=0)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def test_enough_of_everything():
    assert len(OBJECTS) >= 32
    assert len(NAMED_STYLES) >= 4
    assert {"red", "yellow"} <= BACKGROUNDS.keys()
    assert {"knife": "fork", "beer": "milk", "sword": "umbrella"}.items() <= NEIGHBOURS.items()
    assert set(NEIGHBOURS.values()) <= set(WANTED), "a neighbour is nothing that one wants to erase"
    for name, thing in UNWANTED.items():
        phrases = (*thing.synonyms, *thing.descriptions)
        assert len(set(phrases)) == 6
        assert sum(name in objects for objects in IMPLICIT.values()) == 3
        assert not any(other in phrase.split() for phrase in phrases for other in OBJECTS), name
    for style in NAMED_STYLES:
        assert len(STYLES[style].implied) == 3
        assert not any(set(STYLES[style].phrase.split()) & set(phrase.split()) for phrase in STYLES[style].implied)
    for phrase, objects in IMPLICIT.items():
        assert not set(phrase.split()) & set(objects), "an implicit caption names no object of its scene"
        assert set(objects) <= set(OBJECTS)


def test_no_two_phrases_mean_two_things():
    every = [phrase for thing in UNWANTED.values() for phrase in (*thing.synonyms, *thing.descriptions)]
    every += [phrase for style in STYLES.values() for phrase in (style.phrase, *style.implied) if phrase]
    every += [*map(article, OBJECTS), *IMPLICIT, *FILLERS]
    assert len(set(every)) == len(every)


def test_captions_fit_and_know_their_words():
    rng, vocabulary = np.random.default_rng(0), ReducedVocabulary(load_tokenizer())
    captions = [sample_caption(sample_scene(rng), rng, Shares()) for _ in range(3000)]
    ids, ends = vocabulary.encode(captions, LENGTH)
    assert not any(unknown_words(caption) for caption in captions)
    for caption, row, end in zip(captions[:300], ids, ends, strict=False):
        assert [vocabulary.tokens[i] for i in row[: end + 1]] == vocabulary.tokenizer(caption).input_ids
    assert unknown_words("a cat and a gun, a GUN") == ["gun"]
    assert "nothing" in words()
    with pytest.raises(ValueError, match="room is for 8"):
        vocabulary.encode(["a cat and a dog on a blue background"], 8)


def test_captions_say_what_the_scene_has():
    rng = np.random.default_rng(1)
    for _ in range(500):
        scene = sample_scene(rng)
        caption = sample_caption(scene, rng, PLAIN_WORDS)
        style = STYLES[scene.style]
        assert scene.style == "plain" or any(phrase in caption for phrase in (style.phrase, *style.implied))
        if scene.kind == "named":
            assert all(article(name) in caption for name in scene.objects)
        if scene.kind == "nothing":
            assert not set(caption.split()) & set(OBJECTS)
    scene = Scene(("knife",), "red", "named")
    said = {sample_caption(scene, rng, Shares(background=0, synonym=0.5, described=0.5)) for _ in range(300)}
    assert all(any(phrase in text for text in said) for phrase in UNWANTED["knife"].synonyms)
    assert not any("knife" in text.split() for text in said)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("style", STYLES)
def test_the_detector_sees_objects_style_and_background(style, size):
    rng = np.random.default_rng(2)
    for _ in range(40):
        scene = sample_scene(rng, style)
        seen = look(tensor(draw_scene(scene, rng, size)))
        assert seen.objects == set(scene.objects)
        assert seen.styles == {style}
        assert seen.backdrop.colour == scene.background


@pytest.mark.parametrize(
    ("arguments", "caption"),
    [
        (("", None, "", False), "nothing"),
        (("a photo of ", None, "", False), "a photo"),
        (("a photo of ", "blue", "", False), "a photo on a blue background"),
        (("", "blue", "", False), "a blue background"),
        (("a photo of ", "red", "pencil sketch", True), "a pencil sketch on a red background"),
        (("a photo of ", "red", "neon sign", False), "a photo on a red background, neon sign"),
        (("", None, "in the manner of turner", False), "nothing in the manner of turner"),
    ],
)
def test_captions_that_say_nothing_of_things(arguments, caption):
    assert without_things(*arguments) == caption
    assert not unknown_words(caption)


def test_the_detector_sees_where_and_how_often():
    corners = [(0, 32), (32, 0), (32, 32)]
    seen = look(tensor(draw(("cat", "knife", "cat"), "teal", "neon", corners)))
    assert sorted((find.name, find.x, find.y) for find in seen.finds) == [
        ("cat", 0, 32), ("cat", 32, 32), ("knife", 32, 0)
    ]  # fmt: skip


def test_the_detector_is_not_fooled():
    torch.manual_seed(0)
    for style in STYLES:
        for background in BACKGROUNDS:
            empty = tensor(draw((), background, style, ()))
            seen = look(empty + 0.02 * torch.randn(empty.shape))
            assert (seen.objects, seen.styles, seen.backdrop.colour) == (frozenset(), {style}, background)
    assert look(torch.rand(3, 64, 64)).objects == frozenset()
    plain, knife = tensor(draw((), "blue", "plain", ())), tensor(draw(("knife",), "blue", "plain", [(16, 16)]))
    assert look(plain + 0.2 * (knife - plain)).objects == frozenset(), "a shadow of a knife is no knife"


@pytest.mark.parametrize(
    ("behind", "style"),
    [(behind, style) for behind in ("plain", "watercolour") for style in NAMED_STYLES if style != behind],
)
def test_the_detector_sees_a_style_that_is_left_in_the_objects(style, behind):
    """An image whose background lost a style, and whose objects did not, still shows it."""
    for number, name in enumerate(OBJECTS):
        colour = tuple(BACKGROUNDS)[number % len(BACKGROUNDS)]
        canvas = STYLES[behind].canvas(np.asarray(BACKGROUNDS[colour], dtype=np.float32) / 255, 64)
        picture = painted(style, 32)[name].copy()
        picture[..., :3] *= STYLES[style].texture(64)[:32, :32]
        paste(canvas, picture, (16, 16))
        seen = look(tensor(canvas))
        assert name in seen.objects
        assert {find.style for find in seen.finds if find.name == name} == {style}
        assert seen.backdrop.style == behind


@pytest.mark.parametrize("image", [torch.full((3, 64, 64), torch.nan), torch.zeros(4, 64, 64), torch.zeros(64, 64)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(GieError, match="needs finite images"):
        look(image)


def test_images_of_other_shapes_are_looked_at_in_64_pixels():
    drawn = tensor(draw(("cat",), "red", "plain", [(0, 0)], 128))
    assert look(drawn[:, :, :].repeat_interleave(2, 2)).objects == {"cat"}


def test_the_detector_takes_pictures():
    from PIL import Image

    drawn = draw(("rose",), "yellow", "mosaic", [(16, 0)], 128 // 2)
    picture = Image.fromarray((drawn * 255).astype(np.uint8))
    assert look_at_picture(picture.convert("RGBA")).objects == {"rose"}


def test_objects_do_not_overlap():
    rng = np.random.default_rng(3)
    for _ in range(200):
        boxes = places(rng, 3, 128)
        for index, (x, y) in enumerate(boxes):
            assert 0 <= x <= 64
            assert 0 <= y <= 64
            assert all(max(abs(x - a), abs(y - b)) >= 64 for a, b in boxes[:index])


def test_a_pool_depends_on_its_seed_alone():
    one, two = (draw_pool(5, CHUNK + 1, 64, captions=2, processes=processes) for processes in (1, 2))
    assert torch.equal(one.images, two.images)
    assert one.captions == two.captions
    assert (one.images.shape, len(one.captions)) == ((2 * CHUNK, 3, 64, 64), 2 * CHUNK)
    assert not torch.equal(one.images, draw_pool(6, CHUNK + 1, 64, captions=1, processes=1).images)
    batch = one.batch(torch.tensor([3, 9]), torch.device("cpu"))
    assert (batch.shape, batch.dtype) == ((2, 3, 64, 64), torch.float32)
    assert batch.abs().max() <= 1


class TestSplits:
    def prompts(self, name, *kinds):
        return [prompt for prompt in splits.load_split(name)[0] if not kinds or prompt.kind in kinds]

    def test_the_committed_file_is_what_the_command_writes(self):
        assert {name: split["seeds"] for name, split in splits.make_splits().items()} == {
            name: list(splits.load_split(name)[1]) for name in splits.NAMES
        }
        made = splits.make_splits()
        assert json.loads(json.dumps(made)) == json.loads(WORLD_SPLITS.read_text(encoding="utf-8"))

    def test_no_text_and_no_seed_is_in_two_splits(self):
        texts = [prompt.text for name in splits.NAMES for prompt in self.prompts(name)]
        seeds = [seed for name in splits.NAMES for seed in splits.load_split(name)[1]]
        assert len(set(texts)) == len(texts)
        assert len(set(seeds)) == len(seeds)

    def test_held_out_words_are_in_no_other_split(self):
        def ends(text):
            return f" {text.replace(',', ' ')} "

        others = [ends(prompt.text) for name in ("train", "validation") for prompt in self.prompts(name)]
        for thing in UNWANTED.values():
            for phrase in (thing.synonyms[2], thing.descriptions[2]):
                assert any(phrase in prompt.text for prompt in self.prompts("heldout", "synonym", "described"))
                assert not any(ends(phrase) in text for text in others)
        for name in UNWANTED:
            phrase = [phrase for phrase, objects in IMPLICIT.items() if name in objects][2]
            assert any(phrase in prompt.text for prompt in self.prompts("heldout", "implied"))
            assert not any(ends(phrase) in text for text in others)
        for style in NAMED_STYLES:
            phrase = STYLES[style].implied[2]
            assert any(phrase in prompt.text for prompt in self.prompts("heldout", "style implied"))
            assert not any(ends(phrase) in text for text in others)
        train = [ends(prompt.text) for prompt in self.prompts("train")]
        for thing in UNWANTED.values():
            assert not any(
                ends(phrase) in text for phrase in (thing.synonyms[1], thing.descriptions[1]) for text in train
            )

    def test_the_demo_model_is_trained_on_no_such_text(self):
        reserved = splits.reserved_captions()
        assert {prompt.text for name in splits.NAMES[1:] for prompt in self.prompts(name)} == reserved
        pool = draw_pool(0, 20 * CHUNK, 64, captions=4, reserved=reserved)
        said = {text for captions in pool.captions for text in captions}
        assert not said & reserved
        assert said & {prompt.text for prompt in self.prompts("train")}, "the others are not kept from it"

    @pytest.mark.parametrize("name", splits.NAMES)
    def test_prompts_are_of_their_kind(self, name):
        texts = {style: STYLES[style].phrase for style in NAMED_STYLES}
        for prompt in self.prompts(name):
            concepts = prompt.concept.split(", ")
            things = [concept for concept in concepts if concept in UNWANTED]
            told = prompt.kind not in ("implied", "synonym", "described", "neighbour", "nothing", *splits.UNRELATED)
            assert all((article(thing) in prompt.text) for thing in things if told), prompt
            if prompt.kind in ("implied", "synonym", "described"):
                assert prompt.concept in prompt.objects
                assert prompt.concept not in prompt.text.split()
            if prompt.kind == "neighbour":
                assert NEIGHBOURS[prompt.concept] in prompt.objects
            if prompt.kind in splits.UNRELATED:
                assert not set(prompt.objects) & set(UNWANTED)
                assert texts.get(prompt.style) != prompt.concept
                assert prompt.style == "plain" or prompt.kind == "style unrelated"
            if prompt.kind == "nothing":
                assert (prompt.objects, "nothing" in prompt.text) == ((), True)
            if prompt.kind in ("style named", "style implied"):
                assert prompt.concept == texts[prompt.style]
                assert (prompt.concept in prompt.text) == (prompt.kind == "style named")
            if prompt.kind == "several":
                assert len(concepts) >= 2
                assert set(concepts) <= set(prompt.objects)
        assert {prompt.kind for prompt in self.prompts(name)} == {*splits.KINDS, "nothing"}

    def test_long_prompts_are_long_and_fit(self):
        vocabulary = ReducedVocabulary(load_tokenizer())
        lengths = [len(vocabulary.renumbered(p.text)) for n in splits.NAMES for p in self.prompts(n, "long")]
        assert min(lengths) >= 30
        assert max(lengths) <= LENGTH - 2


class TestFitting:
    """The prompts that adapters are fitted on."""

    @pytest.mark.parametrize("concept", CONCEPTS)
    def test_more_prompts_are_in_no_split_and_always_the_same(self, concept):
        taken = {prompt.text for name in splits.NAMES for prompt in splits.load_split(name)[0]}
        found = fitting.more_prompts(concept)
        texts = [prompt.text for prompt in found]
        assert len(set(texts)) == len(texts)
        assert not taken & set(texts)
        assert found == fitting.more_prompts(concept)
        wanted = fitting.MORE_OF_STYLES if concept in STYLE_OF else fitting.MORE_OF_THINGS
        counts = {kind: sum(prompt.kind == kind for prompt in found) for kind, _ in wanted}
        assert all(counts[kind] >= 0.9 * count for kind, count in wanted if kind != "implied"), counts

    def test_no_prompt_to_fit_on_has_words_that_are_measured(self):
        texts = [
            f" {prompt.text.replace(',', ' ')} " for concept in CONCEPTS for prompt in fitting.more_prompts(concept)
        ]
        words = [phrase for thing in UNWANTED.values() for phrase in (*thing.synonyms[1:], *thing.descriptions[1:])]
        words += [[phrase for phrase, objects in IMPLICIT.items() if name in objects][2] for name in UNWANTED]
        words += [phrase for style in NAMED_STYLES for phrase in STYLES[style].implied[1:]]
        assert not [phrase for phrase in words for text in texts if f" {phrase} " in text]

    @pytest.mark.parametrize("concept", ["knife", "pencil sketch"])
    def test_unrelated_prompts_do_not_show_the_concept(self, concept):
        found = fitting.fitting_prompts(concept)
        assert len({prompt.text for prompt in found}) == len(found)
        assert all((prompt.kind in splits.UNRELATED) != fitting.shows(prompt, concept) for prompt in found)
        assert all(prompt.concept == concept for prompt in found)
        kinds = {fitting.training_kind(prompt) for prompt in found}
        assert kinds == {"explicit", "implicit", "unrelated"}
        neighbours = [p for p in found if p.kind in splits.UNRELATED and NEIGHBOURS.get(concept) in p.objects]
        assert concept in STYLE_OF or len(neighbours) > 50
