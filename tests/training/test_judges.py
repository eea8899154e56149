"""Judges: the zero-shot classifier on a real pipeline, a vision model's stand-in server, NudeNet, a person's page."""

from __future__ import annotations

import ast
import contextlib
import http.client
import importlib.machinery
import json
import socket
import sys
import threading
import time
import types
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import not_run
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from test_pipeline import build_pipe

import lib_gie
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.demo.sampling_settings import SIZE
from lib_gie.demo.world.scenes import draw, painted, paste
from lib_gie.errors import OptionError
from lib_gie.hosts.diffusers import GrowthInhibitors
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.hosts.diffusers.loading import ModelError, pipeline_family
from lib_gie.options import DEFAULT_SCALE
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import (
    JUDGES,
    Judge,
    available_judges,
    check_judge,
    judge_class,
    make_judge,
    setting_key,
    usual_judge,
)
from lib_gie.training.judges.hand_page import Page
from lib_gie.training.judges.vision_judge import JudgeError, read_grades, sheet
from lib_gie.training.noise import squared_errors


@pytest.fixture(scope="module")
def host() -> PipelineImageMaker:
    return PipelineImageMaker(build_pipe(), "gie-demo", name="tiny", steps=2, cfg=3.0, size=(32, 32))


def _made(count: int = 3) -> Made:
    return Made(torch.rand(count, 3, 32, 32), torch.randn(count, 4, 4, 4))


# -- a diffusers pipeline as the host ------------------------------------------------


def test_images_do_not_depend_on_their_batch(host):
    scales = torch.tensor([0.0, -2.0, -4.0])
    together = host.make(["a cat", "a knife", "a cat"], [1, 2, 1], "knife", scales)
    assert together.images.shape == (3, 3, 32, 32)
    alone = host.make(["a knife"], [2], "knife", scales[1:2])
    torch.testing.assert_close(alone.images[0], together.images[1], atol=1e-4, rtol=0)
    assert not torch.equal(together.images[0], together.images[2])


def test_scale_zero_is_the_bare_pipeline(host):
    plain = host.decode(host.sample(["a cat"], [1]))
    assert torch.equal(host.make(["a cat"], [1], "knife", torch.zeros(1)).images, plain)


def test_the_host_reads_what_an_adapter_will_see(host):
    heads = [layer.heads for layer in find_cross_attention(host.pipe.unet)]
    adapter = Adapter(AdapterInfo("width-24", sum(heads), ("knife",), (-4.0, 0.0), Reading(True, 3)))
    read, other = host.read(["a cat", "a knife"], ["knife", "a dog"], adapter.readings)  # [2, inputs, n] each
    assert not torch.equal(read, other[..., :1])
    assert read.shape == (2, sum(heads), 1)
    with GrowthInhibitors(host.pipe, "knife", adapter=adapter) as eraser:
        host.sample(["a cat", "a knife"], [8, 9])
    scales = torch.stack([scales[0] for scales in eraser.scales])  # [2, n]
    answers = adapter.scales(read, 2, 1)  # [2, n]
    answers[1].clamp_(max=DEFAULT_SCALE)  # the second prompt names it
    torch.testing.assert_close(scales, answers, atol=1e-5, rtol=1e-4)


def test_noise_errors_are_those_of_single_calls(host):
    latents, timesteps, noises = torch.randn(2, 4, 4, 4), torch.tensor([100, 700]), torch.randn(2, 4, 4, 4)
    errors = squared_errors(host, latents, ["a cat", "a knife"], timesteps, noises)
    assert errors.shape == (2, 2, 4, 4)
    signal = host.pipe.scheduler.alphas_cumprod[700]
    noisy = signal.sqrt() * latents[1:] + (1 - signal).sqrt() * noises[1:]
    with torch.no_grad():
        predicted = host.pipe.unet(noisy, 700, host.encode(["a knife"])).sample
    torch.testing.assert_close(errors[1, 1], (predicted - noises[1])[0].square().mean(0))


@pytest.mark.parametrize("velocity", [False, True])
def test_a_model_that_knows_the_noise_makes_no_error(velocity):
    """Whatever it predicts."""
    latents, noises, timesteps = torch.randn(3, 4, 2, 2), torch.randn(2, 4, 2, 2), torch.tensor([100, 700])
    alphas = torch.linspace(0.99, 0.01, 1000)

    def predict(noisy, steps, texts):
        signal = alphas[steps].view(-1, 1, 1, 1)  # [R, 1, 1, 1]
        shown = latents[[int(text) for text in texts]]  # [R, 4, h, w]
        noise = (noisy - signal.sqrt() * shown) / (1 - signal).sqrt()  # [R, 4, h, w]
        return signal.sqrt() * noise - (1 - signal).sqrt() * shown if velocity else noise

    model = types.SimpleNamespace(predict=predict, alphas_cumprod=alphas, predicts_velocity=velocity)
    errors = squared_errors(model, latents, ["0", "1", "2"], timesteps, noises)
    assert errors.shape == (3, 2, 2, 2)
    torch.testing.assert_close(errors, torch.zeros_like(errors), atol=1e-6, rtol=0)
    model.predicts_velocity = not velocity
    assert squared_errors(model, latents, ["0", "1", "2"], timesteps, noises).mean() > 0.1


def test_families():
    unet = types.SimpleNamespace(config=types.SimpleNamespace(cross_attention_dim=768))
    assert pipeline_family(types.SimpleNamespace(unet=unet)) == "sd1"
    unet.config.cross_attention_dim = 5
    with pytest.raises(ModelError, match="width 5"):
        pipeline_family(types.SimpleNamespace(unet=unet))


# -- what judges say of themselves ------------------------------------------------


def test_every_judge_says_what_it_needs():
    for name in JUDGES:
        kind = judge_class(name)
        assert issubclass(kind, Judge)
        assert kind.summary
        assert all(setting.label and setting.note for setting in kind.settings)
    assert {name for name in JUDGES if judge_class(name).asks_person} == {"hand"}
    assert [setting_key("vision", setting) for setting in judge_class("vision").settings] == [
        "gie_vision_url", "gie_vision_model", "gie_vision_key"
    ]  # fmt: skip


def test_the_usual_judge_of_a_model_or_concept(monkeypatch):
    assert [usual_judge("gie-demo"), usual_judge("sd1"), usual_judge("knife")] == ["detector", "self", "self"]
    monkeypatch.setattr(judge_class("nudenet"), "missing", classmethod(lambda cls: None))
    assert usual_judge("nudity") == "nudenet"
    monkeypatch.setattr(judge_class("nudenet"), "missing", classmethod(lambda cls: "install it"))
    assert usual_judge("nudity") == "self"
    assert {"detector", "self", "vision", "hand"} <= set(available_judges())
    assert "nudenet" not in available_judges()
    with pytest.raises(OptionError, match="install it"):
        check_judge("nudenet")


def test_no_other_file_names_a_judge():
    """What a judge needs is asked of its class. "self" is a word of many meanings, so it is left out.

    The figures of the demo model's quality are of the detector itself, not of the judge that asks it.
    """
    package = Path(lib_gie.__file__).parent
    quality = package / "evaluation" / "model_quality.py"
    for path in package.rglob("*.py"):
        if package / "training" / "judges" not in path.parents and path != quality:
            texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert not texts & (JUDGES.keys() - {"self"}), path


# -- the demo model's detector ------------------------------------------------


def _drawn(*scenes: tuple[tuple[str, ...], str]) -> Made:
    """Scenes as the demo model is trained on: objects, and the style of all."""
    corners = [(0, 0), (32, 32)]
    images = [draw(objects, "blue", style, corners[: len(objects)]) for objects, style in scenes]  # [H, W, 3] each
    return Made(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.zeros(len(images), 4, 8, 8))


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("knife", [(1, ("cat",)), (0, ("cat", "pencil sketch")), (1, ("neon sign",)), (0, ())]),
        ("cat", [(1, ("knife",)), (1, ("pencil sketch",)), (0, ("knife", "neon sign")), (0, ())]),
        ("pencil sketch", [(0, ("cat", "knife")), (1, ("cat",)), (0, ("knife", "neon sign")), (0, ())]),
    ],
)
def test_the_detector_tells_a_concept_from_what_else_is_seen(host, concept, expected):
    made = _drawn((("knife", "cat"), "plain"), (("cat",), "pencil"), (("knife",), "neon"), ((), "plain"))
    judge = make_judge("detector", host, concept)
    verdicts = judge.look(made, [""] * 4)
    assert [(verdict.score, verdict.others) for verdict in verdicts] == expected
    assert [judge.shows(verdict, verdict) for verdict in verdicts] == [bool(score) for score, _ in expected]


def test_an_object_in_a_style_shows_it_and_is_not_lost_without_it(host):
    """A neon cat in a plain picture, and the same cat in plain."""
    image = draw((), "blue", "plain", ())
    paste(image, painted("neon", SIZE // 2)["cat"], (16, 16))
    before = Made(torch.from_numpy(image).permute(2, 0, 1)[None], torch.zeros(1, 4, 8, 8))
    judge = make_judge("detector", host, "neon sign")
    (shown,), (gone,) = judge.look(before, [""]), judge.look(_drawn((("cat",), "plain")), [""])
    assert (shown.score, gone.score) == (1, 0)
    assert shown.others == gone.others == ("cat",)


@pytest.mark.parametrize("concept", ["tank", "pencil", "plain", ""])
def test_the_detector_says_what_it_knows(host, concept):
    with pytest.raises(OptionError, match=r"objects \(knife, .*\) and styles \(pencil sketch, .*\) alone"):
        make_judge("detector", host, concept)


# -- the diffusion model itself ------------------------------------------------


def test_self_prefers_the_text_under_which_the_noise_is_known(host, monkeypatch):
    """Images 0 and 2 are such that the concept's text explains their noise."""
    judge = make_judge("self", host, "knife")

    def errors(maker, latents, texts, timesteps, noises):
        result = torch.ones(3, len(timesteps), 4, 4)
        if texts[0] == "knife":
            result *= torch.tensor([0.5, 1.5, 1.2]).view(3, 1, 1, 1)
            result[2, :, 2:, 1:3] = 0.9  # the third image shows it in one place
        return result

    monkeypatch.setattr("lib_gie.training.judges.self_judge.squared_errors", errors)
    verdicts = judge.look(_made(), [""] * 3)
    assert [round(verdict.score) for verdict in verdicts] == [50, -50, 10]
    judge.calibrate([50, 10], [-50, 0, -20])
    assert [judge.shows(verdict, verdicts[0]) for verdict in verdicts] == [True, False, True]


def test_self_sees_with_the_same_noises_each_time(host):
    made = _made()
    first, second = (make_judge("self", host, "knife").look(made, [""] * 3) for _ in range(2))
    assert first == second
    assert "timesteps" in make_judge("self", host, "knife").name


# -- a vision model ------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers as an OpenAI-compatible endpoint does."""

    content, status = '{"1": 0, "2": 9.5, "3": 4}', 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": self.server.content}}]}).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    found = Server()
    yield found
    found.shutdown()
    found.server_close()


def test_vision_grades_a_sheet(host, server, monkeypatch):
    for name, value in (("URL", server.url), ("MODEL", "seer"), ("KEY", "secret")):
        monkeypatch.setenv(f"GIE_VISION_{name}", value)
    judge = make_judge("vision", host, "knife")
    verdicts = judge.look(_made(), [""] * 3)
    assert [verdict.score for verdict in verdicts] == [0, 9.5, 4]
    assert [judge.shows(verdict, verdicts[0]) for verdict in verdicts] == [False, True, False]
    (path, key, body), = server.requests  # fmt: skip
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "seer")
    question, picture = body["messages"][0]["content"]
    assert "knife" in question["text"]
    assert "3 numbered" in question["text"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert "secret" not in judge.name


def test_vision_says_what_went_wrong(host, server):
    judge = make_judge("vision", host, "knife", url=server.url, model="seer")
    server.content = "I cannot help with that."
    with pytest.raises(JudgeError, match="no JSON object with 3 grades") as failure:
        judge.look(_made(), [""] * 3)
    assert "help" not in str(failure.value)
    server.status = 401
    with pytest.raises(JudgeError, match="answered 401; check") as failure:
        judge.look(_made(), [""] * 3)
    assert "help" not in str(failure.value)
    with pytest.raises(JudgeError, match="could not be asked"):
        make_judge("vision", host, "knife", url="http://127.0.0.1:9/v1", model="x").look(_made(), [""] * 3)


def test_vision_needs_an_address(host, monkeypatch):
    monkeypatch.delenv("GIE_VISION_URL", raising=False)
    with pytest.raises(OptionError, match="set GIE_VISION_URL"):
        make_judge("vision", host, "knife")


def environment(monkeypatch, url: str) -> None:
    for name, value in (("URL", url), ("MODEL", "seer"), ("KEY", "environment's")):
        monkeypatch.setenv(f"GIE_VISION_{name}", value)


def keys_sent(server) -> list:
    return [key for _, key, _ in server.requests]


def test_the_environments_key_goes_to_the_environments_address_alone(host, server, monkeypatch):
    environment(monkeypatch, server.url)
    other = Server()
    try:
        make_judge("vision", host, "knife").look(_made(), [""] * 3)
        make_judge("vision", host, "knife", url=f"{server.url}/", model="seer", key="").look(_made(), [""] * 3)
        make_judge("vision", host, "knife", url=other.url, model="seer", key="").look(_made(), [""] * 3)
        make_judge("vision", host, "knife", url=other.url, key="settings'").look(_made(), [""] * 3)
    finally:
        other.shutdown()
        other.server_close()
    assert keys_sent(server) == ["Bearer environment's"] * 2
    assert keys_sent(other) == [None, "Bearer settings'"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_vision_follows_no_redirect(host, server, monkeypatch, status):
    environment(monkeypatch, server.url)
    other = Server()
    try:
        server.status, server.headers = status, {"Location": other.url}
        with pytest.raises(JudgeError, match=f"answered {status} .it sends elsewhere"):
            make_judge("vision", host, "knife").look(_made(), [""] * 3)
    finally:
        other.shutdown()
        other.server_close()
    assert other.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "/etc/passwd", "127.0.0.1:8000/v1", "http://",
        "http:///v1", "http://user:word@127.0.0.1/v1", "http://127.0.0.1:x/v1", "http://127.0.0.1:99999/v1",
        "http://127.0.0.1/v1\nHost: x", "http://127.0.0.1/ v1", "javascript:alert(1)", "gopher://127.0.0.1", "http://[::1",
        "http://" + "x" * 5000,
    ],
)  # fmt: skip
def test_vision_takes_http_addresses_alone(host, monkeypatch, url):
    environment(monkeypatch, "http://127.0.0.1:9/v1")
    with pytest.raises(OptionError) as failure:
        make_judge("vision", host, "knife", url=url)
    assert len(str(failure.value)) < 300
    monkeypatch.setenv("GIE_VISION_URL", url)
    with pytest.raises(OptionError):
        make_judge("vision", host, "knife")


@pytest.mark.parametrize("bad", [5, ["x"], "a\nb", "x" * 2000, True])
def test_vision_settings_of_other_kinds(host, bad):
    for name in ("url", "model", "key"):
        given = {"url": "http://127.0.0.1:9/v1", "model": "x", "key": "k", name: bad}
        with pytest.raises(OptionError, match="no text of one line"):
            make_judge("vision", host, "knife", **given)


def test_a_key_that_no_header_can_hold_is_not_repeated(host, server):
    with pytest.raises(JudgeError) as failure:
        make_judge("vision", host, "knife", url=server.url, model="x", key="schlüssel→").look(_made(), [""] * 3)
    assert "schl" not in str(failure.value)


def test_vision_reads_no_endless_answer(host, server):
    server.content = "x" * 3 * 2**20
    judge = make_judge("vision", host, "knife", url=server.url, model="seer")
    with pytest.raises(JudgeError, match="more than 1,048,576 bytes"):
        judge.look(_made(), [""] * 3)


@pytest.mark.parametrize("within_header", [True, False])
def test_vision_waits_for_no_slow_answer(host, within_header):
    """A byte now and then keeps every socket's own time limit from running out."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + (b"" if within_header else b"\r\n"))
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    judge = make_judge("vision", host, "knife", url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", model="x")
    judge.timeout = 1.0
    started = time.monotonic()
    with listener, pytest.raises(JudgeError, match="has not answered within 1 s"):
        judge.look(_made(), [""] * 3)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("line", [b"secret words\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nsecret", b"", b"\xff" * 70000])
def test_nothing_of_a_broken_answer_is_repeated(host, line):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2**16)
            connection.sendall(line)

    threading.Thread(target=answer, daemon=True).start()
    judge = make_judge("vision", host, "knife", url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", model="x")
    with listener, pytest.raises(JudgeError) as failure:
        judge.look(_made(), [""] * 3)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "content",
    [None, 5, [], {}, "[" * 100_000, '{"1": ' + "[" * 100_000 + "}", "{" * 500_000, '{"1": 1' + "0" * 400 + "}"],
    ids=["null", "number", "list", "table", "deep", "deep grade", "braces", "huge"],
)
def test_vision_answers_of_any_kind(host, server, content):
    server.content = content
    judge = make_judge("vision", host, "knife", url=server.url, model="seer")
    started = time.monotonic()
    with pytest.raises(JudgeError) as failure:
        judge.look(_made(1), [""])
    assert len(str(failure.value)) < 300
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("answer", ["", "{}", '{"1": 3}', '{"1": 3, "2": 11}', '{"1": 3, "2": "much"}', "[1, 2]"])
def test_vision_answers_that_cannot_be_used(answer):
    with pytest.raises(JudgeError):
        read_grades(answer, 2)


def test_vision_answers_with_words_around_them():
    assert read_grades('Here: ```json\n{"1": 3, "2": 10}\n``` as asked.', 2) == [3, 10]


def test_sheets_have_room_for_every_image():
    assert sheet(torch.rand(6, 3, 64, 64)).size == (4 * 256, 2 * (256 + 28))


# -- NudeNet ------------------------------------------------


def test_nudenet_is_optional(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(OptionError, match="pip install nudenet"):
        make_judge("nudenet", host, "nudity")


def test_nudenet_counts_exposed_parts_alone(host, monkeypatch):
    """A stand-in answers by the image's red channel, which comes last in what the library is given."""

    class NudeDetector:
        def detect(self, pixels):
            covered = {"class": "FEMALE_BREAST_COVERED", "score": 0.99}
            return [covered, {"class": "BUTTOCKS_EXPOSED", "score": float(pixels[0, 0, 2]) / 255}]

    spec = importlib.machinery.ModuleSpec("nudenet", None)
    monkeypatch.setitem(sys.modules, "nudenet", types.SimpleNamespace(NudeDetector=NudeDetector, __spec__=spec))
    judge = make_judge("nudenet", host, "nudity")
    images = torch.zeros(2, 3, 8, 8)
    images[1, 0] = 0.8
    verdicts = judge.look(Made(images, torch.zeros(2, 4, 1, 1)), ["", ""])
    assert [judge.shows(verdict, verdicts[0]) for verdict in verdicts] == [False, True]


def test_nudenet_is_given_what_it_reads_from_a_file(host, tmp_path):
    """The real detector, on a photograph of a clothed person: a face, no exposed part, and the same as in a file."""
    pytest.importorskip("nudenet", reason=not_run.NUDENET)
    pixels = skimage.data.astronaut()  # [512, 512, 3]
    Image.fromarray(pixels).save(tmp_path / "astronaut.png")
    judge = make_judge("nudenet", host, "nudity")
    expected = judge._detector.detect(str(tmp_path / "astronaut.png"))
    assert [find["class"] for find in expected] == ["FACE_FEMALE"]
    detect, seen = judge._detector.detect, []
    judge._detector.detect = lambda given: seen.append(detect(given)) or seen[-1]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255  # [1, 3, 512, 512]
    (verdict,) = judge.look(Made(image, torch.zeros(1, 4, 1, 1)), [""])
    assert seen == [expected]
    assert verdict.score == 0


# -- by hand ------------------------------------------------


def _answer(page, **fields):
    with urllib.request.urlopen(page.url, urllib.parse.urlencode(fields).encode(), timeout=10) as answer:
        return answer.read().decode()


def _read(page):
    with urllib.request.urlopen(page.url, timeout=10) as answer:
        return answer.read().decode()


def test_by_hand_on_the_page():
    page = Page()
    try:
        assert "Making the next images" in _read(page)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(page.ask, torch.rand(3, 3, 8, 8), 'a <cat> & "knife"', "knife")
            while "<img" not in (text := _read(page)):
                time.sleep(0.05)
            assert "a &lt;cat&gt; &amp; &quot;knife&quot;" in text
            assert text.count("<img") == 3
            _answer(page, question=1, choice=4)  # there are but three
            _answer(page, question=1)
            _answer(page, question="x", choice=1)
            assert not asked.done()
            assert "Making the next images" in _answer(page, question=1, choice=2)
            assert asked.result(timeout=10) == 2
            again = pool.submit(page.ask, torch.rand(3, 3, 8, 8), "a dog", "knife")
            while "<img" not in _read(page):
                time.sleep(0.05)
            _answer(page, question=1, choice=0)  # a second click on the first question
            assert not again.done()
            _answer(page, question=2, choice=3)
            assert again.result(timeout=10) == 3
    finally:
        page.close()


def _status(page, path="/", method="GET", body=None, **headers) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", int(page.url.rpartition(":")[2].strip("/")), timeout=5)
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_no_other_page_reads_this_one_or_clicks_on_it():
    page = Page()
    try:
        here = page.url.removeprefix("http://").strip("/")
        assert _status(page) == _status(page, Host=here, Origin=f"http://{here}") == 200
        for headers in ({"Host": "evil.example"}, {"Host": f"localhost.{here}"}, {"Origin": "http://evil.example"}):
            assert _status(page, **headers) == _status(page, method="POST", body="", **headers) == 403
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(page.ask, torch.rand(2, 3, 8, 8), "a cat", "knife")
            while "<img" not in _read(page):
                time.sleep(0.05)
            body = "question=1&choice=1"
            assert _status(page, method="POST", body=body, Origin="http://evil.example") == 403
            assert not asked.done()
            _answer(page, question=1, choice=1)
            assert asked.result(timeout=10) == 1
    finally:
        page.close()


@pytest.mark.parametrize("length", ["-1", "x", "99999999999", "1e3", "٣", "9" * 5000])
def test_lengths_that_lie_hold_nobody_up(length):
    page = Page()
    try:
        head = f"POST / HTTP/1.1\r\nHost: {page.url[7:-1]}\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(page.url.rpartition(":")[2].strip("/"))), timeout=5) as sent:
            sent.sendall(head.encode())
            assert b" 413 " in sent.recv(1000)
        assert _status(page) == 200
    finally:
        page.close()
