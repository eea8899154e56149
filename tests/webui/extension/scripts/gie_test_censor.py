"""What extensions do that let nobody see a picture, as an extension of its own: only for tests/webui.

Its argument says where it paints every picture black, or what else it does to finished images.
"""

import functools

import gradio as gr
import torch
from modules import processing, script_callbacks, scripts, shared
from PIL import Image


def black(image):
    return Image.new(image.mode, image.size)


def black_samples(samples):
    """What decodes to black, whether it is decoded already [B, 3, H, W] or not [B, 4, h, w]."""
    factor = 1 if getattr(samples, "already_decoded", False) else 8
    height, width = (factor * side for side in samples[0].shape[-2:])
    return processing.DecodedSamples([torch.full((3, height, width), -1.0) for _ in samples])


def paint(image):
    image.paste(black(image))


def before_saving(params):
    paint(params.image)


def after_saving(params):
    black(params.image).save(params.filename)


class Censor(scripts.Script):
    """``sample``: around ``p.sample``; the names of a script's methods; ``postprocess, ...``: in other ways there;
    ``before_image_saved``, ``image_saved``: the WebUI's callbacks of these names.
    """

    def title(self):
        return "GIE test censor"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False)]

    def process(self, p, where):
        for callback in (before_saving, after_saving):  # of the request before
            script_callbacks.remove_callbacks_for_function(callback)
        if where == "before_image_saved":
            script_callbacks.on_before_image_saved(before_saving)
        if where == "image_saved":
            script_callbacks.on_image_saved(after_saving)
        if where == "sample":
            inner = p.sample
            p.sample = functools.wraps(inner)(lambda *args, **kwargs: black_samples(inner(*args, **kwargs)))

    def post_sample(self, p, ps, where):
        if where == "post_sample":
            ps.samples = black_samples(ps.samples)

    def postprocess_batch(self, p, where, images, **kwargs):
        if where == "postprocess_batch":
            images[:] = 0

    def postprocess_batch_list(self, p, pp, where, **kwargs):
        if where == "postprocess_batch_list":
            pp.images = [torch.zeros_like(image) for image in pp.images]
        if where == "drops an image":
            del pp.images[0]
            for name in ("prompts", "negative_prompts", "seeds", "subseeds"):
                setattr(p, name, getattr(p, name)[1:])

    def postprocess_image(self, p, pp, where):
        if where == "postprocess_image":
            pp.image = black(pp.image)

    def postprocess_maskoverlay(self, p, ppmo, where):
        if where == "postprocess_maskoverlay":
            ppmo.overlay_image = Image.new("RGBA", (p.width, p.height), (0, 0, 0, 255))

    def postprocess_image_after_composite(self, p, pp, where):
        if where == "postprocess_image_after_composite":
            pp.image = black(pp.image)

    def postprocess(self, p, processed, where):
        if where == "postprocess":
            processed.images = [black(image) for image in processed.images]
        if where == "postprocess, painting":
            for image in processed.images:
                paint(image)
        if where == "postprocess, only results":
            for image in processed.images[: len(p.all_seeds)]:
                paint(image)
        if where == "postprocess, taking away":
            processed.images = []
        if where == "postprocess, failing":
            for number in range(len(processed.images)):
                paint(processed.images[number])
                processed.all_seeds[number + 1]


class Stop(scripts.Script):
    """Skips, interrupts or stops after the current batch: in a batch, before its denoiser call of that number."""

    p, how, batch, call, calls = None, None, 0, 0, 0

    def title(self):
        return "GIE test stop"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False), gr.Number(visible=False), gr.Number(visible=False)]

    def process(self, p, how, batch, call):
        Stop.p, Stop.how = (p, how) if how else (None, None)
        Stop.batch, Stop.call = int(batch or 0), int(call or 0)

    def process_batch(self, p, *args, batch_number, **kwargs):
        Stop.calls = 0
        stop()

    def postprocess(self, p, *args):
        Stop.p = None


def stop(params=None):
    """After a denoiser call, or before the first of them."""
    Stop.calls += params is not None
    if Stop.p is not None and (Stop.p.iteration, Stop.calls) == (Stop.batch, Stop.call):
        getattr(shared.state, Stop.how)()


script_callbacks.on_cfg_after_cfg(stop)


class Previews(scripts.Script):
    """Sets the live preview to the negative prompt at every step and counts, for the infotext, what is stored."""

    counts = None

    def title(self):
        return "GIE test previews"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Checkbox(visible=False)]

    def process(self, p, enabled):
        counts = {"negative": 0, "prompt": 0, "none": 0} if enabled is True else None
        Previews.counts = counts
        if counts is not None:
            p.extra_generation_params["Previews"] = lambda **unused: " ".join(f"{k} {v}" for k, v in counts.items())

    def postprocess(self, p, processed, enabled):
        if self.counts is not None:
            shared.opts.data["live_preview_content"] = "Prompt"
        Previews.counts = None


def before_preview(params):
    """After the UNet call, before the WebUI decides what to store."""
    if Previews.counts is not None:
        shared.opts.data["live_preview_content"] = "Negative prompt"
        shared.state.current_latent, Previews.rows = None, params.x.clone()


def after_preview(params):
    if Previews.counts is None:
        return
    stored, half = shared.state.current_latent, len(Previews.rows) // 2
    kind = "none" if stored is None else "prompt" if torch.equal(stored, Previews.rows[:half]) else "negative"
    Previews.counts[kind] += 1


script_callbacks.on_cfg_denoised(before_preview)
script_callbacks.on_cfg_after_cfg(after_preview)
