"""The demo checkpoint in a real WebUI, offline: it loads and draws what it is asked for."""

from __future__ import annotations

import base64
import io

from PIL import Image

from lib_gie.demo.detector import detect_image
from lib_gie.demo.settings import CFG, SIZE, STEPS

NAME = "gie-demo"


def images(webui, prompt: str, **options):
    body = {"prompt": prompt, "steps": STEPS, "cfg_scale": CFG, "width": SIZE, "height": SIZE, "seed": 5,
            "sampler_name": "DPM++ 2M", "scheduler": "Karras", **options}  # fmt: skip
    answer = webui.call("txt2img", body)
    return [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"]]


def test_loads_and_draws(webui):
    titles = [model["title"] for model in webui.call("sd-models") if model["model_name"].startswith(NAME)]
    assert titles, "put models/demo/gie-demo.safetensors and .yaml among the WebUI's checkpoints"
    webui.call("options", {"sd_model_checkpoint": titles[0]})
    # a failed switch answers 200 all the same
    assert webui.call("options")["sd_model_checkpoint"].startswith(NAME)
    found = [detect_image(image) for image in images(webui, "a cat and a knife", batch_size=8)[-8:]]
    assert sum({"cat", "knife"} <= objects for objects in found) >= 6
    found = [detect_image(image) for image in images(webui, "a robbery", batch_size=8)[-8:]]
    assert sum({"money", "knife"} <= objects for objects in found) >= 6


def test_emphasis_does_not_blow_up(webui):
    """The WebUI's emphasis divides by the mean of the text states."""
    (image,) = images(webui, "a (cat:1.2) on a blue background")[-1:]
    assert "cat" in detect_image(image)
