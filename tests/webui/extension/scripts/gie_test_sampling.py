"""How other extensions touch the sampling, each way on its own: only for tests/webui, which name it by the argument."""

import contextlib

import gradio as gr
import torch
from modules import script_callbacks, scripts, sd_samplers


def rows_of(condition, positions):
    """The rows at these positions of a condition as the denoiser passes it on: tensors, or lists of one."""
    if isinstance(condition, torch.Tensor):
        return condition[positions]
    if isinstance(condition, list):
        return [rows_of(item, positions) for item in condition]
    return {key: rows_of(value, positions) for key, value in condition.items()}


def in_parts(inner, orders):
    """A forward that calls ``inner`` for some rows at a time: ``orders(rows)`` gives the positions of each call."""

    def replaced(x, sigma, cond, **kwargs):
        output = torch.zeros_like(x)
        for positions in orders(len(x)):
            output[positions] = inner(x[positions], sigma[positions], cond=rows_of(cond, positions), **kwargs)
        return output

    return replaced


def windows(rows):
    """Two windows of half of the images, each with and without the prompt, as AnimateDiff makes them."""
    images = rows // 2
    first, second = list(range(images // 2)), list(range(images // 2, images))
    return [[*part, *(images + image for image in part)] for part in (first, second)]


def swapped(rows):
    return [[*range(rows // 2, rows), *range(rows // 2)]]


def backwards(rows):
    return [list(range(rows))[::-1]]


def one_by_one(rows):
    return [[row] for row in reversed(range(rows))]


ORDERS = {"windows": windows, "swapped": swapped, "backwards": backwards, "one by one": one_by_one}
running = {"way": "", "params": None}


def extra_call(part):
    """The prompt's rows once more, as guidance by perturbed attention does."""
    params, kept = running["params"], running["way"].split(", ")
    if not kept[0].startswith("calls") or part != kept[1] or params is None:
        return
    count = len(params.text_cond)
    rows = slice(0, count)
    text = torch.zeros_like(params.text_cond) if "foreign" in kept else params.text_cond
    condition = {"c_crossattn": [text], "c_concat": [params.image_cond[rows]]}
    with contextlib.suppress(Exception):  # as the WebUI forgets whatever a callback raises
        params.denoiser.inner_model(params.x[rows], params.sigma[rows], cond=condition)


def sample(p, conditioning, unconditional_conditioning):
    running.update(way="own sampling", params=None)
    p.sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    x = p.rng.next()  # [B, 4, h, w]
    image_conditioning = p.txt2img_image_conditioning(x)
    return p.sampler.sample(p, x, conditioning, unconditional_conditioning, image_conditioning=image_conditioning)


class Sampling(scripts.Script):
    """``windows``, ``swapped``, ``backwards``, ``one by one``: the inner model gets the rows in that order.

    ``calls, denoiser`` (or ``denoised``, ``after cfg``): the conditional rows once more in that callback; with
    ``, foreign`` under a prompt that nobody announced, its error swallowed. ``weights``: a callback after all others
    changes the CFG scale's multiplier. ``replaced``: the inner model predicts by itself. ``sample``: ``p.sample`` is
    replaced by one that goes on with what it sampled. ``own sampling``: by one that samples by itself.
    """

    def title(self):
        return "GIE test sampling"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False)]

    def process_before_every_sampling(self, p, way, **kwargs):
        running.update(way=way or "", params=None)

    def postprocess(self, p, processed, way):
        running.update(way="", params=None)

    def process_batch(self, p, way, **kwargs):
        if way == "sample":
            inner = p.sample
            p.sample = lambda *args, **kwargs: inner(*args, **kwargs) * 1.0
        if way == "own sampling":
            p.sample = lambda conditioning, unconditional_conditioning, **kwargs: sample(
                p, conditioning, unconditional_conditioning
            )


def on_denoiser(params):
    running["params"] = params
    denoiser, way = params.denoiser, running["way"]
    if way == "weights":
        denoiser.cond_scale_miltiplier = -1.0
    inner = denoiser.inner_model
    if way in ORDERS and "forward" not in vars(inner):
        inner.forward = in_parts(inner.forward, ORDERS[way])
    if way == "replaced" and "forward" not in vars(inner):

        def replaced(x, sigma, cond, **kwargs):
            return x * 0

        inner.forward = replaced
    extra_call("denoiser")


def take_a_forward_away(params):
    """Models live on: what was put onto them for a request goes with it. Other extensions' forwards are theirs."""
    inner = params.denoiser.inner_model
    own = getattr(vars(inner).get("forward"), "__name__", "") == "replaced"
    if running["way"] not in (*ORDERS, "replaced") and own:
        del inner.forward


script_callbacks.on_cfg_denoiser(take_a_forward_away)
script_callbacks.on_cfg_denoiser(on_denoiser)
script_callbacks.on_cfg_denoised(lambda params: extra_call("denoised"))
script_callbacks.on_cfg_after_cfg(lambda params: extra_call("after cfg"))
