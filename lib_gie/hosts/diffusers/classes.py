"""In which rows of a UNet call each of diffusers' pipelines puts its prompts.

Nothing is guessed: a pipeline that is in no table here is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_gie.errors import UnsupportedModelError

NEGATIVE, PROMPT = "negative", "prompt"


@dataclass(frozen=True)
class Layout:
    """The rows of a pipeline's UNet calls: groups with a row for each image, one group after the other.

    ``guided``: the groups with guidance; without it there is the prompt's alone. ``perturbs``: PAG, which draws the
    prompt's group once more with perturbed attention. ``encoder``: the method that encodes the prompt.
    ``family``: "sd" (one text encoder) or "sdxl" (two, or the second alone). ``counts_all``: whether it counts the
    steps that ``denoising_end`` leaves out.
    """

    guided: tuple[str, ...] = (NEGATIVE, PROMPT)
    perturbs: bool = False
    encoder: str = "encode_prompt"
    family: str = "sd"
    counts_all: bool = False

    def groups(self, guided: bool, perturbed: bool) -> tuple[str, ...]:
        """Return the groups of one UNet call; ``perturbed``: whether PAG is on now."""
        found = self.guided if guided else (PROMPT,)
        return (*found, PROMPT) if perturbed else found


_SD, _SDXL, _SDXL_ALL = Layout(), Layout(family="sdxl"), Layout(family="sdxl", counts_all=True)
_SD_PAG, _SDXL_PAG = Layout(perturbs=True), Layout(perturbs=True, family="sdxl")
_PIX2PIX = (PROMPT, NEGATIVE, NEGATIVE)

LAYOUTS: dict[str, Layout] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionInpaintPipeline": _SD,
    "StableDiffusionDepth2ImgPipeline": _SD,
    "StableDiffusionUpscalePipeline": _SD,
    "StableDiffusionLDM3DPipeline": _SD,
    "StableDiffusionModelEditingPipeline": _SD,
    "StableDiffusionAdapterPipeline": _SD,
    "StableDiffusionControlNetPipeline": _SD,
    "StableDiffusionControlNetImg2ImgPipeline": _SD,
    "StableDiffusionControlNetInpaintPipeline": _SD,
    "StableDiffusionInstructPix2PixPipeline": Layout(guided=_PIX2PIX, encoder="_encode_prompt"),
    "LatentConsistencyModelPipeline": _SD,
    "LatentConsistencyModelImg2ImgPipeline": _SD,
    "StableDiffusionPAGPipeline": _SD_PAG,
    "StableDiffusionPAGImg2ImgPipeline": _SD_PAG,
    "StableDiffusionPAGInpaintPipeline": _SD_PAG,
    "StableDiffusionControlNetPAGPipeline": _SD_PAG,
    "StableDiffusionControlNetPAGInpaintPipeline": _SD_PAG,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusionXLImg2ImgPipeline": _SDXL,
    "StableDiffusionXLInpaintPipeline": _SDXL,
    "StableDiffusionXLInstructPix2PixPipeline": Layout(guided=_PIX2PIX, family="sdxl", counts_all=True),
    "StableDiffusionXLAdapterPipeline": _SDXL_ALL,
    "StableDiffusionXLControlNetPipeline": _SDXL_ALL,
    "StableDiffusionXLControlNetImg2ImgPipeline": _SDXL,
    "StableDiffusionXLControlNetInpaintPipeline": _SDXL_ALL,
    "StableDiffusionXLControlNetUnionPipeline": _SDXL_ALL,
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": _SDXL,
    "StableDiffusionXLControlNetUnionInpaintPipeline": _SDXL_ALL,
    "StableDiffusionXLPAGPipeline": _SDXL_PAG,
    "StableDiffusionXLPAGImg2ImgPipeline": _SDXL_PAG,
    "StableDiffusionXLPAGInpaintPipeline": _SDXL_PAG,
    "StableDiffusionXLControlNetPAGPipeline": Layout(perturbs=True, family="sdxl", counts_all=True),
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": _SDXL_PAG,
}
"""By the name of the diffusers class whose ``__call__`` a pipeline has."""

_IMAGE_EMBEDDING = "it draws from the embedding of a picture, which erasing from the prompt's attention does not reach"
_PHRASES = "its phrases reach the image through layers of their own, where nothing is erased"
_OWN_ROWS = "it puts other prompts' rows into the same UNet call"
_OTHER_CALLS = "it calls the UNet more than once a step, or for a part of the image"
_VIDEO = "it makes videos, whose UNet draws many frames from one row"
_JOINT = "its model attends to text and image jointly and has no cross-attention to the prompt"
_NOT_TORCH = "its UNet runs outside torch, where nothing can be added to its attention"

REASONS: dict[str, str] = {
    "StableDiffusionImageVariationPipeline": _IMAGE_EMBEDDING,
    "StableUnCLIPPipeline": _IMAGE_EMBEDDING,
    "StableUnCLIPImg2ImgPipeline": _IMAGE_EMBEDDING,
    "PaintByExamplePipeline": _IMAGE_EMBEDDING,
    "BlipDiffusionPipeline": _IMAGE_EMBEDDING,
    "BlipDiffusionControlNetPipeline": _IMAGE_EMBEDDING,
    "StableDiffusionPipelineSafe": _OWN_ROWS,
    "SemanticStableDiffusionPipeline": _OWN_ROWS,
    "LEditsPPPipelineStableDiffusion": _OWN_ROWS,
    "LEditsPPPipelineStableDiffusionXL": _OWN_ROWS,
    "CycleDiffusionPipeline": _OWN_ROWS,
    "StableDiffusionAttendAndExcitePipeline": _OTHER_CALLS,
    "StableDiffusionDiffEditPipeline": _OTHER_CALLS,
    "StableDiffusionGLIGENPipeline": _PHRASES,
    "StableDiffusionGLIGENTextImagePipeline": _PHRASES,
    "StableDiffusionPanoramaPipeline": _OTHER_CALLS,
    "StableDiffusionParadigmsPipeline": _OTHER_CALLS,
    "StableDiffusionPix2PixZeroPipeline": _OTHER_CALLS,
    "StableDiffusionSAGPipeline": _OTHER_CALLS,
    "StableDiffusionControlNetXSPipeline": "its ControlNet attends to the prompt within the UNet's own layers",
    "StableDiffusionXLControlNetXSPipeline": "its ControlNet attends to the prompt within the UNet's own layers",
    "StableDiffusionLatentUpscalePipeline": "its UNet normalises the prompt's states in every layer",
    "StableDiffusionInpaintPipelineLegacy": "it tells nobody how many steps it makes",
    "AltDiffusionPipeline": "its text encoder is not CLIP's",
    "AltDiffusionImg2ImgPipeline": "its text encoder is not CLIP's",
    "KolorsPipeline": "its text encoder is not CLIP's",
    "KolorsImg2ImgPipeline": "its text encoder is not CLIP's",
    "KolorsPAGPipeline": "its text encoder is not CLIP's",
    "AnimateDiffPipeline": _VIDEO,
    "AnimateDiffControlNetPipeline": _VIDEO,
    "AnimateDiffPAGPipeline": _VIDEO,
    "AnimateDiffSDXLPipeline": _VIDEO,
    "AnimateDiffSparseControlNetPipeline": _VIDEO,
    "AnimateDiffVideoToVideoPipeline": _VIDEO,
    "AnimateDiffVideoToVideoControlNetPipeline": _VIDEO,
    "PIAPipeline": _VIDEO,
    "StableVideoDiffusionPipeline": _VIDEO,
    "TextToVideoSDPipeline": _VIDEO,
    "TextToVideoZeroPipeline": _VIDEO,
    "TextToVideoZeroSDXLPipeline": _VIDEO,
    "VideoToVideoSDPipeline": _VIDEO,
    "OnnxStableDiffusionPipeline": _NOT_TORCH,
    "OnnxStableDiffusionImg2ImgPipeline": _NOT_TORCH,
    "OnnxStableDiffusionInpaintPipeline": _NOT_TORCH,
    "OnnxStableDiffusionInpaintPipelineLegacy": _NOT_TORCH,
    "OnnxStableDiffusionUpscalePipeline": _NOT_TORCH,
    "StableDiffusionOnnxPipeline": _NOT_TORCH,
    "StableDiffusion3Pipeline": _JOINT,
    "StableDiffusion3Img2ImgPipeline": _JOINT,
    "StableDiffusion3InpaintPipeline": _JOINT,
    "StableDiffusion3PAGPipeline": _JOINT,
    "StableDiffusion3PAGImg2ImgPipeline": _JOINT,
    "StableDiffusion3ControlNetPipeline": _JOINT,
    "StableDiffusion3ControlNetInpaintingPipeline": _JOINT,
}
"""Why other pipelines of Stable Diffusion are refused, by their names."""


def _caller(kind: type) -> str | None:
    """Return the name of the diffusers class whose ``__call__`` a class has; None where it is somebody else's."""
    call = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    if call is None or not getattr(call, "__module__", "").startswith("diffusers."):
        return None
    return str(call.__qualname__).rpartition(".")[0]


def layout_of(pipe: Any) -> tuple[Layout, bool]:
    """Return the rows of a pipeline's UNet calls, and whether they are known (if not, each call's must be looked at).

    A class of somebody's own that inherits ``__call__`` is as its base; with a ``__call__`` of its own its rows are
    expected to be those of its base. Raises UnsupportedModelError for all others.
    """
    kind = type(pipe)
    caller = _caller(kind)
    if caller in LAYOUTS:
        return LAYOUTS[caller], True
    bases = [base.__name__ for base in kind.__mro__ if base.__module__.startswith("diffusers.")]
    if caller is None and bases and bases[0] in LAYOUTS:
        return LAYOUTS[bases[0]], False
    if bases or getattr(pipe, "unet", None) is not None:
        why = REASONS.get(caller or "", "it is not known which rows of its UNet calls are the prompt's")
        raise UnsupportedModelError(
            f"growth inhibitors cannot be used with {kind.__name__}: {why}; use StableDiffusionPipeline, "
            f"StableDiffusionXLPipeline or another of the pipelines that docs/COMPATIBILITY.md lists"
        )
    raise UnsupportedModelError(
        f"{kind.__name__} has no unet; growth inhibitors work on pipelines of Stable Diffusion with a UNet"
    )
