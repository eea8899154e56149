"""What may change under a request while it runs: only for tests/webui, which tell it by its argument."""

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared

STEP = 2
_state = {"change": ""}


class Networks(scripts.Script):
    """``hypernetworks``: they are taken away before the third step. ``weights``: the UNet's cross-attention keys are
    made 512 times as large before the sampling, by writing to them, and as they were before the third step.
    """

    def title(self):
        return "GIE test networks"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False)]

    def process_before_every_sampling(self, p, change, **kwargs):
        _state["change"] = change or ""
        if change == "weights":
            multiply_keys(512.0)  # a power of two: nothing is rounded

    def postprocess(self, p, processed, change):
        _state["change"] = ""


def multiply_keys(factor):
    with torch.no_grad():
        for name, module in shared.sd_model.model.diffusion_model.named_modules():
            if name.endswith("attn2.to_k"):
                module.weight.mul_(factor)


def on_step(params):
    if params.sampling_step != STEP or not _state["change"]:
        return
    if _state["change"] == "hypernetworks":
        shared.loaded_hypernetworks = []
    if _state["change"] == "weights":
        multiply_keys(1 / 512)
    _state["change"] = ""


script_callbacks.on_cfg_denoiser(on_step)
