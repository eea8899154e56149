"""What the tab's training makes, reads and judges, for tests/webui, which asks for it by prompt."""

import importlib

import torch
from modules import script_callbacks


def _host(side=64):
    training = importlib.import_module("lib_gie.hosts.webui.training.image_maker")
    return training.WebUIImageMaker(sampler="DPM++ 2M", steps=8, cfg=4, width=side, height=side)


def make(body: dict):
    """Latents of one batch, [B, 4, h, w]."""
    return _host().make(body["prompts"], body["seeds"], body["concept"], torch.tensor(body["scales"])).latents.tolist()


def read(body: dict):
    """What adapters of the tab's kind would see, [B, inputs, n]."""
    reading = importlib.import_module("lib_gie.training.fitting").READING
    return _host().read(body["prompts"], [body["concept"]], [reading])[0].tolist()


def judge(body: dict):
    """Scores of the judge "self", [B]."""
    found = importlib.import_module("lib_gie.training.judges").make_judge("self", _host(), body["concept"])
    return found.scores(torch.tensor(body["latents"]), body["prompts"]).tolist()


def description():
    """What kept labels depend on."""
    return _host().description


def add_routes(blocks, app):
    for route in (make, read, judge):
        app.add_api_route(f"/gie-test/training/{route.__name__}", route, methods=["POST"])
    app.add_api_route("/gie-test/training/description", description)


script_callbacks.on_app_started(add_routes)
