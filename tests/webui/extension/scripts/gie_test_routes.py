"""What other extensions do, as an extension of its own: only for tests/webui, which tell it by its argument."""

import sys
from contextlib import contextmanager

import gradio as gr
import torch
from modules import processing, script_callbacks, scripts, sd_unet, shared


class ZeroUnet(sd_unet.SdUnet):
    """A UNet that takes the place of the checkpoint's, as TensorRT's does."""

    def forward(self, x, timesteps, context, *args, **kwargs):
        return torch.zeros_like(x)


class ZeroOption(sd_unet.SdUnetOption):
    model_name, label = "no checkpoint", "gietest"

    def create_unet(self):
        return ZeroUnet()


def break_second_step():
    host = sys.modules["lib_gie.hosts.webui.host.chosen"].HOST
    working = host.step_rows

    def broken(p, params):
        if params.denoiser.step != 1:
            return working(p, params)
        del host.step_rows
        raise ZeroDivisionError("a defect of the test's own")

    host.step_rows = broken


KEPT = "__gie_test_original_process_images_inner"


def stand_in_front():
    """Put a function in the place of the host's, and keep the host's under another name, as ControlNet does."""
    if not hasattr(processing, KEPT):  # Reload UI
        setattr(processing, KEPT, processing.process_images_inner)
        processing.process_images_inner = lambda p: getattr(processing, KEPT)(p)


@contextmanager
def replaced(function):
    """Have ``process_images`` call this function, as ADetailer takes ControlNet's off."""
    before, processing.process_images_inner = processing.process_images_inner, function
    try:
        yield
    finally:
        processing.process_images_inner = before


def by_route(route):
    """Return the function that a nested generation is made by."""
    kept = getattr(processing, KEPT)
    past = getattr(kept, "_gie_original", kept)
    return {"nested": processing.process_images_inner, "kept": kept, "past": past}[route]


stand_in_front()


class Routes(scripts.Script):
    """``nested``: every image is redrawn by a generation within the generation, without any script (ADetailer).

    ``kept``: likewise, by the host's function that another extension keeps (ADetailer with ControlNet). ``past``:
    likewise, by the host's function without what growth inhibitors have put around it.

    ``outside``: the UNet is called before the sampling, by itself. ``defect``: the second step's rows cannot be found
    out, in a callback whose exceptions the WebUI swallows.
    """

    def title(self):
        return "GIE test routes"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False)]

    def process_before_every_sampling(self, p, route, x=None, **kwargs):
        if route == "defect":
            break_second_step()
        if route == "outside":
            context = torch.zeros(1, 77, 128)  # [1, 77, D]
            shared.sd_model.model.diffusion_model(x[:1], torch.ones(1), context)  # [1, 4, h, w]

    def postprocess_image(self, p, pp, route):
        if route not in ("nested", "kept", "past"):
            return
        inner = processing.StableDiffusionProcessingImg2Img(
            prompt="a dog and a knife", seed=7, steps=8, cfg_scale=p.cfg_scale, width=p.width, height=p.height,
            init_images=[pp.image], denoising_strength=1.0, sampler_name=p.sampler_name, scheduler=p.scheduler,
            do_not_save_samples=True, do_not_save_grid=True,
        )  # fmt: skip
        with replaced(by_route(route)):
            done = processing.process_images(inner)
        p.extra_generation_params["Nested"] = done.infotexts[0]
        pp.image = done.images[0]


class Past(scripts.Script):
    """Makes a selected script's images by the host's function without what growth inhibitors have put around it."""

    def title(self):
        return "GIE test past"

    def run(self, p):
        with replaced(by_route("past")):
            return processing.process_images(p)


script_callbacks.on_list_unets(lambda options: options.append(ZeroOption()))
