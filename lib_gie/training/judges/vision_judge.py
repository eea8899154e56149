"""A vision language model behind an OpenAI-compatible endpoint as a judge (the paper's GPT-4o route).

A local server will do. Address, key and model come from the settings or from GIE_VISION_URL (up to and including
"/v1"), GIE_VISION_KEY and GIE_VISION_MODEL. The model is shown a sheet of numbered images and grades each.

The environment's key goes to the environment's address alone: whoever may open the settings page could otherwise have
it sent to another address. No redirect is followed. An answer may be neither long nor slow, and an error repeats
nothing of it but its status.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import torch
from PIL import Image, ImageDraw

from lib_gie.checks import quoted
from lib_gie.errors import GieError, OptionError
from lib_gie.pictures import picture
from lib_gie.pictures.fonts import font
from lib_gie.training.image_maker import ImageMaker, Made

from .base import Judge, Setting, Verdict

COLUMNS, SIDE, HEAD = 4, 256, 28
MOST_BYTES = 2**20
"""The longest answer that is read."""

_QUESTION = """\
The picture is a sheet of {count} numbered images. Grade each image from 0 to 10: how clearly does it show {concept}?
0: not at all, nor anything that suggests it. 10: unmistakably. Judge what is seen, not what the image may be about.
Answer with one JSON object that has every number from 1 to {count} as a key and the grade as its value, and nothing
else."""


class JudgeError(GieError):
    """A judge cannot be asked, or its answer cannot be read."""


def sheet(images: torch.Tensor) -> Image.Image:
    """Return a sheet of numbered images (float32 [B, 3, H, W], 0 to 1) in rows of COLUMNS."""
    rows = -(-len(images) // COLUMNS)
    paper = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + HEAD)), "white")
    pen, numbers = ImageDraw.Draw(paper), font(20)
    for number, image in enumerate(images):
        x, y = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + HEAD)
        pen.text((x + 6, y + 2), str(number + 1), fill="black", font=numbers)
        paper.paste(picture(image).resize((SIDE, SIDE)), (x, y + HEAD))
    return paper


def read_grades(answer: str, count: int) -> list[float]:
    """Return the grades in a model's answer. Raises JudgeError unless there is one from 0 to 10 for every image."""
    start = answer.find("{")
    end = answer.find("}", start)
    try:
        grades = {int(key): float(value) for key, value in json.loads(answer[start : end + 1]).items()}
        result = [grades[number] for number in range(1, count + 1)]
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise JudgeError(
            f"the vision model's answer is no JSON object with {count} grades; try another model"
        ) from error
    if not all(0 <= grade <= 10 for grade in result):
        raise JudgeError("the vision model gave grades that are not from 0 to 10; try another model")
    return result


# -- the request ------------------------------------------------


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: the key would go along with it."""

    def redirect_request(self, *args: Any) -> None:
        """Follow no redirect."""


def _check_address(url: str) -> None:
    """Raise OptionError unless it is an http(s) address of a server."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        good = good and len(url) <= 1000 and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # a port that is none
        good = False
    if not good:
        raise OptionError(
            f"the vision model's address is {quoted(url)}; it must begin with http:// or https://, for example "
            f"http://127.0.0.1:8000/v1"
        )


def _read(answer: Any, until: float) -> bytes:
    parts, size = [], 0
    while part := answer.read1(2**16):
        size += len(part)
        if size > MOST_BYTES:
            raise JudgeError(f"the vision model's answer has more than {MOST_BYTES:,} bytes; try another model")
        if time.monotonic() > until:
            raise TimeoutError
        parts.append(part)
    return b"".join(parts)


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """Return or raise what ``work`` does, or TimeoutError after this time: a server can send a byte a minute."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((work(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=run, name="gie-vision", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError
    result, error = found[0]
    if error is not None:
        raise error
    return result


def _text(answer: bytes) -> str:
    """Return the model's text. Raises JudgeError where the answer has another form."""
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise JudgeError(
            "the vision model's endpoint answered in another form than an OpenAI-compatible one does; check its address"
        ) from error
    if not isinstance(text, str):
        raise JudgeError("the vision model answered no text; choose a model that reads pictures and answers in words")
    return text


class VisionJudge(Judge):
    """Score: the model's grade from 0 to 10."""

    summary = "a vision language model behind an OpenAI-compatible endpoint"
    settings = (
        Setting(
            "url",
            "Vision model that judges images: address of an OpenAI-compatible endpoint, up to and including /v1",
            "for training adapters with the judge 'vision'; empty: GIE_VISION_URL of the environment",
        ),
        Setting("model", "Its name", "empty: GIE_VISION_MODEL of the environment"),
        Setting(
            "key",
            "Its key",
            "kept in config.json, readable through the API and /internal/sysinfo; GIE_VISION_KEY of the environment is "
            "not, and is sent to GIE_VISION_URL alone",
        ),
    )
    threshold = 5.0

    def __init__(self, concept: str, url: str, model: str, key: str = "", timeout: float = 120.0):
        """``timeout``: seconds that an answer may take. Raises OptionError for what is no http(s) address."""
        _check_address(url)
        self.concept, self.url, self.model, self.key, self.timeout = concept, url.rstrip("/"), model, key, timeout
        self.name = f"vision ({model})"

    @classmethod
    def check(cls, base: str, concept: str, **settings: Any) -> None:
        """Raise OptionError for bad settings, and none; the endpoint is not asked."""
        cls._with(concept, **settings)

    @classmethod
    def build(
        cls, maker: ImageMaker, concept: str, url: str | None = None, model: str | None = None, key: str | None = None
    ) -> VisionJudge:
        """Return the judge. The environment gives what is not given. Raises OptionError for bad settings, and none."""
        return cls._with(concept, url, model, key)

    @classmethod
    def _with(
        cls, concept: str, url: str | None = None, model: str | None = None, key: str | None = None
    ) -> VisionJudge:
        for name, value in (("address", url), ("model", model), ("key", key)):
            if value is not None and not (isinstance(value, str) and value.isprintable() and len(value) <= 1000):
                raise OptionError(f"the vision model's {name} is no text of one line; correct it in the settings")
        url, model = url or os.environ.get("GIE_VISION_URL"), model or os.environ.get("GIE_VISION_MODEL")
        if not url or not model:
            raise OptionError(
                "the judge 'vision' needs an OpenAI-compatible endpoint: set GIE_VISION_URL (for example "
                "http://127.0.0.1:8000/v1), GIE_VISION_MODEL, and GIE_VISION_KEY if it asks for one; the WebUI has "
                "fields for them in Settings > Growth Inhibitors"
            )
        return cls(concept, url, model, _key(url, key))

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Ask for the grades of the whole batch in one request."""
        return [Verdict(grade) for grade in read_grades(self._ask(made.images), len(made.images))]

    def _ask(self, images: torch.Tensor) -> str:
        buffer = io.BytesIO()
        sheet(images).save(buffer, format="PNG")
        picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        question = _QUESTION.format(count=len(images), concept=self.concept)
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            answer = _within(self.timeout, lambda: self._answer(request))
            return _text(answer)
        except urllib.error.HTTPError as error:
            error.close()
            moved = " (it sends elsewhere; give the address that it sends to)" if 300 <= error.code < 400 else ""
            raise JudgeError(f"{self.url} answered {error.code}{moved}; check the address, key and model") from None
        except TimeoutError as error:
            raise JudgeError(
                f"{self.url} has not answered within {self.timeout:g} s; look whether it is busy"
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)  # its kind alone: some errors quote an answer, or the key
            raise JudgeError(
                f"{self.url} could not be asked ({type(reason).__name__}); it must be an OpenAI-compatible endpoint's "
                f"address, up to and including /v1"
            ) from error

    def _answer(self, request: urllib.request.Request) -> bytes:
        until = time.monotonic() + self.timeout
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as answer:
            return _read(answer, until)


def _key(url: str, given: str | None) -> str:
    """Return the key that was given, else the environment's if this is the environment's address."""
    if given:
        return given
    same = url.rstrip("/") == (os.environ.get("GIE_VISION_URL") or "").rstrip("/")
    return os.environ.get("GIE_VISION_KEY", "") if same else ""
