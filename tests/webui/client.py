"""A running WebUI's API, as the tests speak to it."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from lib_gie.demo.sampling_settings import CFG, SIZE

CHECKPOINT = "gie-demo"
TITLE = "Growth Inhibitors"
SCALE = -1.5
DETECTOR = "gietest.pt"  # what make_detector.py makes


class Answer:
    """The images of a request and their infotexts."""

    def __init__(self, answer: dict):
        self.images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"]]
        info = json.loads(answer["info"])
        self.infotexts = info["infotexts"]
        first = info["index_of_first_image"]
        self.images, self.infotexts = self.images[first:], self.infotexts[first:]

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [images, H, W, 3]."""
        return np.stack([np.asarray(image.convert("RGB")) for image in self.images])

    def __eq__(self, other) -> bool:
        return np.array_equal(self.pixels, other.pixels)

    __hash__ = None


class RequestFailedError(Exception):
    """An HTTP error with the text that the WebUI sends along."""

    def __init__(self, code: int, text: str):
        super().__init__(f"{code}: {text}")
        self.code = code


class WebUI:
    """A running WebUI's API."""

    def __init__(self, url: str, folder: Path):
        self.url, self.folder = url.rstrip("/"), folder

    def get(self, path: str, body: dict | None = None, timeout: float = 600):
        """The JSON answer of PATH; a body makes it a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RequestFailedError(error.code, error.read().decode()) from None

    def call(self, path: str, body: dict | None = None, timeout: float = 600):
        """The same below /sdapi/v1."""
        return self.get(f"sdapi/v1/{path}", body, timeout)

    def txt2img(
        self,
        prompt: str = "a cat and a knife",
        args=None,
        route: str = "txt2img",
        scripts: dict | None = None,
        **options,
    ) -> Answer:
        """Images of the demo checkpoint; ``args``: those of the accordion, None leaves them out.

        ``scripts``: what other always-on scripts are given.
        """
        body = {
            "prompt": prompt, "steps": 8, "cfg_scale": CFG, "width": SIZE, "height": SIZE, "seed": 5,
            "sampler_name": "DPM++ 2M", "scheduler": "Karras", **options,
        }  # fmt: skip
        body["alwayson_scripts"] = dict(scripts or {})
        if args is not None:
            body["alwayson_scripts"][TITLE] = args if isinstance(args, dict) else {"args": args}
        return Answer(self.call(route, body))

    def from_infotext(self, infotext: str) -> Answer:
        """Images from an infotext alone."""
        return Answer(self.call("txt2img", {"infotext": infotext}))

    def use_checkpoint(self, name: str, title: str = "") -> None:
        """Switch to a checkpoint by its name, and the beginning of its title; a failed switch answers 200 as well."""
        known = self.call("sd-models")
        titles = [m["title"] for m in known if m["model_name"] == name and m["title"].startswith(title)]
        assert titles, f"there is no checkpoint {name}; run python tests/webui/make_files.py {self.folder}"
        self.call("options", {"sd_model_checkpoint": titles[0]})
        assert self.call("options")["sd_model_checkpoint"].startswith(name)
