"""A vision language model behind an OpenAI-compatible endpoint as a judge (the paper's GPT-4o route).

A local server will do. Address, key and model come from the settings or from GIE_VISION_URL (up to and including
"/v1"), GIE_VISION_KEY and GIE_VISION_MODEL. It is shown a sheet of numbered images and grades each.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from ...errors import GieError, OptionError
from ...pictures import picture
from ...pictures.fonts import font
from ..host import Host, Made
from .base import Uncalibrated, Verdict

COLUMNS, SIDE, HEAD = 4, 256, 28
THRESHOLD = 5.0
_QUESTION = """\
The picture is a sheet of {count} numbered images. Grade each image from 0 to 10: how clearly does it show {concept}?
0: not at all, nor anything that suggests it. 10: unmistakably. Judge what is seen, not what the image may be about.
Answer with one JSON object that has every number from 1 to {count} as a key and the grade as its value, and nothing
else."""


class JudgeError(GieError):
    """A judge that could not be asked, or whose answer cannot be read."""


def sheet(images: torch.Tensor) -> Image.Image:
    """Numbered images (float32 [B, 3, H, W], 0 to 1) in rows of COLUMNS."""
    rows = -(-len(images) // COLUMNS)
    paper = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + HEAD)), "white")
    pen, numbers = ImageDraw.Draw(paper), font(20)
    for number, image in enumerate(images):
        x, y = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + HEAD)
        pen.text((x + 6, y + 2), str(number + 1), fill="black", font=numbers)
        paper.paste(picture(image).resize((SIDE, SIDE)), (x, y + HEAD))
    return paper


def read_grades(answer: str, count: int) -> list[float]:
    """The grades in a model's answer. Raises JudgeError unless there is one from 0 to 10 for every image."""
    found = re.search(r"\{.*?\}", answer, re.DOTALL)
    try:
        grades = {int(key): float(value) for key, value in json.loads(found[0]).items()}
        result = [grades[number] for number in range(1, count + 1)]
    except (TypeError, ValueError, KeyError) as error:
        raise JudgeError(
            f"the vision model answered {answer[:200]!r}; expected a JSON object with {count} grades"
        ) from error
    if not all(0 <= grade <= 10 for grade in result):
        raise JudgeError(f"the vision model gave grades {result}; expected numbers from 0 to 10")
    return result


class VisionJudge(Uncalibrated):
    """Score: the model's grade from 0 to 10."""

    def __init__(self, concept: str, url: str, model: str, key: str = "", timeout: float = 120.0):
        self.concept, self.url, self.model, self.key, self.timeout = concept, url.rstrip("/"), model, key, timeout
        self.name = f"vision ({model})"

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
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            detail = error.read(300).decode(errors="replace")
            raise JudgeError(f"{self.url} answered {error.code}: {detail}; check the address, key and model") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise JudgeError(
                f"{self.url} could not be asked ({error}); it must be an OpenAI-compatible endpoint's address, up to "
                f"and including /v1"
            ) from error

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """One request for the whole batch."""
        return [Verdict(grade) for grade in read_grades(self._ask(made.images), len(made.images))]

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Whether the grade is 5 or more."""
        return verdict.score >= THRESHOLD


def build(host: Host, concept: str, url: str | None = None, model: str | None = None, key: str | None = None):
    """Settings that are not given come from the environment. Raises OptionError where there are none."""
    url, model = url or os.environ.get("GIE_VISION_URL"), model or os.environ.get("GIE_VISION_MODEL")
    if not url or not model:
        raise OptionError(
            "the judge 'vision' needs an OpenAI-compatible endpoint: set GIE_VISION_URL (for example "
            "http://127.0.0.1:8000/v1), GIE_VISION_MODEL, and GIE_VISION_KEY if it asks for one; the WebUI has fields "
            "for them in Settings > Growth Inhibitors"
        )
    return VisionJudge(concept, url, model, key or os.environ.get("GIE_VISION_KEY", ""))
