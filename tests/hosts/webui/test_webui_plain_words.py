"""What calibrations read is plain words, whatever others do meanwhile; and afterwards everything is as it was."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from types import SimpleNamespace

import pytest
from test_webui_glue import host  # noqa: F401
from test_webui_inversions import WORD, Database


class Options:
    """The WebUI's, as far as it matters: values that stand in a dict."""

    def __init__(self, **values):
        self.data = dict(values)
        self.data_labels = {name: SimpleNamespace(default=f"usual {name}") for name in ("tiling", "emphasis")}

    def __getattr__(self, name):
        return self.data[name]


@pytest.fixture
def words(host):  # noqa: F811
    """The module, with a model whose database has an inversion called "style"."""
    host.shared.opts = Options(tiling=True, emphasis="Original", CLIP_stop_at_last_layers=-3, grid=1)
    host.shared.sd_model.cond_stage_model.hijack.embedding_db = Database()
    return importlib.import_module("lib_gie.hosts.webui.host.plain_words")


def elsewhere(ask):
    """What another thread is told."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join()
    return found[0]


def database(host):  # noqa: F811
    return host.shared.sd_model.cond_stage_model.hijack.embedding_db


def test_this_thread_finds_no_inversion(host, words):  # noqa: F811
    before, there = dict(vars(database(host))), database(host)
    model = importlib.import_module("lib_gie.hosts.webui.host.model")

    def found():
        return len(model.inversions_in("a style", host.shared.sd_model))

    with words.plain_words(host.shared.sd_model):
        assert found() == 0
        assert elsewhere(found) == 1
        assert model.split_tokens("a style", host.shared.sd_model)[0][1] == WORD
    assert found() == 1
    assert database(host) is there
    assert vars(there) == before


def test_one_that_is_made_meanwhile_is_not_found_and_stays(host, words):  # noqa: F811
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    database(host).ids_lookup.clear()
    with words.plain_words(host.shared.sd_model):
        database(host).ids_lookup[WORD] = [([WORD], database(host).embedding)]
        assert not model.inversions_in("style", host.shared.sd_model)
    assert model.inversions_in("style", host.shared.sd_model)


def test_what_another_extension_put_there_is_put_back(host, words):  # noqa: F811
    def other(tokens, offset):
        return None, None

    database(host).find_embedding_at_position = other
    with words.plain_words(host.shared.sd_model):
        assert database(host).find_embedding_at_position is not other
    assert database(host).find_embedding_at_position is other


def test_this_thread_has_settings_of_its_own(host, words):  # noqa: F811
    opts, kind = host.shared.opts, type(host.shared.opts)
    with words.plain_words(host.shared.sd_model):
        assert (opts.tiling, opts.emphasis, opts.CLIP_stop_at_last_layers, opts.grid) == ("usual tiling", "None", 1, 1)
        opts.data.update(grid=2, tiling="set meanwhile")  # as a request of somebody else does
        assert (opts.tiling, opts.grid) == ("usual tiling", 1)
        assert elsewhere(lambda: (opts.tiling, opts.emphasis, opts.grid)) == ("set meanwhile", "Original", 2)
    assert type(opts) is kind
    assert (opts.tiling, opts.emphasis, opts.CLIP_stop_at_last_layers) == ("set meanwhile", "Original", -3)


def test_everything_is_put_back_after_an_error(host, words):  # noqa: F811
    kind, before = type(host.shared.opts), dict(vars(database(host)))
    with pytest.raises(ZeroDivisionError), words.plain_words(host.shared.sd_model):
        raise ZeroDivisionError
    assert type(host.shared.opts) is kind
    assert vars(database(host)) == before
    assert not words.are_plain_words()


def test_within_it_already_nothing_changes(host, words):  # noqa: F811
    with words.plain_words(host.shared.sd_model):
        with words.plain_words(host.shared.sd_model):
            assert words.are_plain_words()
        assert words.are_plain_words()
        assert host.shared.opts.emphasis == "None"
    assert type(host.shared.opts) is Options


def test_a_second_thread_waits(host, words):  # noqa: F811
    """Left in the order in which they came, two would put back each other's changes."""
    inside, leave, seen = threading.Event(), threading.Event(), []

    def first():
        with words.plain_words(host.shared.sd_model):
            inside.set()
            leave.wait(10)
            seen.append("first leaves")

    def second():
        with words.plain_words(host.shared.sd_model):
            seen.append("second comes")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert seen == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert seen == ["first leaves", "second comes"]
    assert type(host.shared.opts) is Options


def test_tags_of_networks_are_words(host, words, monkeypatch):  # noqa: F811
    tags = re.compile(r"<(\w+):([^>]+)>")
    networks = sys.modules["modules.extra_networks"]
    networks.re_extra_net, networks.parse_prompt = tags, lambda prompt: (tags.sub("", prompt), {})
    for name in ("sd_hijack", "sd_samplers"):
        monkeypatch.setitem(sys.modules, f"modules.{name}", SimpleNamespace())
        setattr(sys.modules["modules"], name, SimpleNamespace())
    state = importlib.import_module("lib_gie.hosts.webui.host.prompt_state")
    prompt = "a <lora:style:1>"
    assert (state.networks_in(prompt), state.without_networks(prompt)) == ("<lora:style:1>", "a ")
    with words.plain_words(host.shared.sd_model):
        assert (state.networks_in(prompt), state.without_networks(prompt)) == ("", prompt)
        assert elsewhere(lambda: state.networks_in(prompt)) == "<lora:style:1>"


def test_hypertile_is_off_meanwhile(host, words):  # noqa: F811
    layer = next(host.shared.sd_model.model.diffusion_model.children())
    vars(layer)["__webui_hypertile_params"] = params = SimpleNamespace(enabled=True)
    with words.plain_words(host.shared.sd_model):
        assert not params.enabled
    assert params.enabled


@pytest.mark.parametrize(("setting", "counts"), [(-3, 1), (0, 1), (1, 1), (2, 2), (None, None)])
def test_all_clip_skips_below_1_are_1(host, setting, counts):  # noqa: F811
    """As the WebUI reads them. Else a request could have any number of calibrations made."""
    host.shared.opts.CLIP_stop_at_last_layers = setting
    assert importlib.import_module("lib_gie.hosts.webui.host.model").clip_skip() == counts
