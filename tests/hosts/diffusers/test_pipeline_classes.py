"""Each class of diffusers' Stable Diffusion pipelines: it is erased from, row by row, or refused in one sentence."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_pipelines import CASES, build, call

from lib_gie.core.session import is_inner_call
from lib_gie.errors import UnsupportedModelError
from lib_gie.hosts.diffusers import GrowthInhibitors
from lib_gie.hosts.diffusers.classes import LAYOUTS, REASONS

PROMPTS = ["a cat and a knife", "a house"]
KIN = ("StableDiffusion", "LatentConsistency", "StableUnCLIP", "AnimateDiff", "AltDiffusion", "LEdits")


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pipeline_classes() -> list[str]:
    """All of diffusers' pipelines that have a UNet or are called Stable Diffusion's."""
    found = []
    for name in dir(diffusers):
        if "Pipeline" not in name or "Modular" in name or name.startswith("AutoPipeline"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = getattr(diffusers, name, None)
        if not inspect.isclass(kind) or not issubclass(kind, DiffusionPipeline):
            continue  # an optional library is missing: diffusers has a stand-in that cannot be made
        if "unet" in inspect.signature(kind.__init__).parameters or name.startswith(KIN):
            found.append(name)
    return found


REFUSED = [name for name in pipeline_classes() if name not in CASES]

OTHERS = {
    "audio": "AudioLDM2Pipeline AudioLDMPipeline MusicLDMPipeline",
    "no prompt": "ConsistencyModelPipeline DDIMPipeline DDPMPipeline DanceDiffusionPipeline KarrasVePipeline "
    "LDMPipeline LDMSuperResolutionPipeline MarigoldDepthPipeline MarigoldIntrinsicsPipeline MarigoldNormalsPipeline "
    "PNDMPipeline RePaintPipeline ScoreSdeVePipeline",
    "another model": "DreamLiteMobilePipeline DreamLitePipeline I2VGenXLPipeline IFImg2ImgPipeline "
    "IFImg2ImgSuperResolutionPipeline IFInpaintingPipeline IFInpaintingSuperResolutionPipeline IFPipeline "
    "IFSuperResolutionPipeline Kandinsky3Img2ImgPipeline Kandinsky3Pipeline KandinskyCombinedPipeline "
    "KandinskyImg2ImgCombinedPipeline KandinskyImg2ImgPipeline KandinskyInpaintCombinedPipeline "
    "KandinskyInpaintPipeline KandinskyPipeline KandinskyV22CombinedPipeline KandinskyV22ControlnetImg2ImgPipeline "
    "KandinskyV22ControlnetPipeline KandinskyV22Img2ImgCombinedPipeline KandinskyV22Img2ImgPipeline "
    "KandinskyV22InpaintCombinedPipeline KandinskyV22InpaintPipeline KandinskyV22Pipeline LDMTextToImagePipeline "
    "UniDiffuserPipeline",
}
"""Refused because they are nothing of Stable Diffusion's."""


def test_every_class_is_in_the_table():
    """A class that a later diffusers brings is refused until somebody looks at its rows and puts it here."""
    known = set(LAYOUTS) | set(REASONS) | {name for names in OTHERS.values() for name in names.split()}
    assert sorted(set(pipeline_classes()) - known) == []
    assert set(LAYOUTS) == set(CASES)
    assert not set(LAYOUTS) & set(REASONS)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    kind = getattr(diffusers, name)
    with pytest.raises(UnsupportedModelError) as error:
        GrowthInhibitors(kind.__new__(kind), "knife")
    says = str(error.value)
    assert says.startswith(f"growth inhibitors cannot be used with {name}: ")
    assert REASONS.get(name, "it is not known which rows of its UNet calls are the prompt's") in says
    assert "\n" not in says


class Calls:
    """Writes a pipeline's calls of its UNet down: arguments, attention processors and output."""

    def __init__(self, unet):
        self.unet, self.calls = unet, []

    def __enter__(self) -> Calls:
        # before all others' hooks: an attachment's own calls come in between
        before = self.unet.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True)
        after = self.unet.register_forward_hook(self._after)
        self._handles = [before, after]
        return self

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, unet, args, kwargs) -> None:
        if not is_inner_call():
            self._given = _cloned((args, kwargs)), dict(unet.attn_processors)

    def _after(self, unet, args, output) -> None:
        if not is_inner_call():
            self.calls.append((*self._given, (output[0] if isinstance(output, tuple) else output.sample).clone()))

    @torch.no_grad()
    def changed_rows(self) -> list[list[bool]]:
        """For each call, which rows of its output differ from what the bare UNet makes of the same arguments."""
        found, processors = [], dict(self.unet.attn_processors)
        for (args, kwargs), own, output in self.calls:
            self.unet.set_attn_processor(dict(own))
            args, kwargs = _cloned((args, kwargs))
            plain = self.unet(*args, **{**kwargs, "return_dict": False})[0]
            found.append([not torch.equal(one, other) for one, other in zip(plain, output, strict=True)])
        self.unet.set_attn_processor(processors)
        return found


def _cloned(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    return type(value)(_cloned(part) for part in value) if type(value) in (list, tuple) else value


@pytest.mark.parametrize("guided", [True, False], ids=["guided", "unguided"])
@pytest.mark.parametrize("name", CASES)
def test_works(name, guided):
    pipe, case = build(name), CASES[name]
    own = vars(type(pipe))["__call__"]
    plain = call(pipe, PROMPTS, guided=guided)
    with GrowthInhibitors(pipe, "knife", scale=-3, strength=0.0):
        assert torch.equal(call(pipe, PROMPTS, guided=guided), plain)
    with GrowthInhibitors(pipe, "knife", scale=-3) as user, Calls(pipe.unet) as seen:
        erased = call(pipe, PROMPTS, guided=guided)
    assert len(user.scales) == len(PROMPTS)
    assert ((erased - plain).flatten(1).abs().amax(1) > 1e-3).all()
    groups = case.rows if guided else case.plain
    assert seen.changed_rows() == [[group == "p" for group in groups for _ in PROMPTS]] * case.steps
    assert torch.equal(call(pipe, PROMPTS, guided=guided), plain)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in pipe.unet.modules())
    assert vars(type(pipe))["__call__"] is own


@pytest.mark.parametrize("name", ["StableDiffusionPAGPipeline", "StableDiffusionXLPAGPipeline"])
@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_perturbed_attention_with_what_needs_calls_of_its_own(name, concept_pass):
    """PAG's processors split each batch in three: they must not see the attachment's own calls."""
    pipe = build(name)
    adapter = adapter_for(pipe)
    prompts = ["a cat and a knife", "a house", "a dog"]
    with GrowthInhibitors(pipe, "knife", adapter=adapter, concept_pass=concept_pass) as user:
        erased = call(pipe, prompts)
    together = [float(scales[0]) for scales in user.scales]
    for number, prompt in enumerate(prompts):
        with GrowthInhibitors(pipe, "knife", adapter=adapter, concept_pass=concept_pass) as alone:
            single = call(pipe, [prompt], seed=1 + number)
        torch.testing.assert_close(erased[number : number + 1], single, atol=1e-3, rtol=1e-3)
        assert abs(float(alone.scales[0][0]) - together[number]) < 1e-3
    assert len(set(together)) == 3


def adapter_for(pipe):
    """An adapter of random weights whose answers differ from image to image."""
    from lib_gie.core.layers import find_cross_attention
    from lib_gie.core.scales.adapter import Adapter, AdapterInfo

    torch.manual_seed(4)
    layers = len(find_cross_attention(pipe.unet))
    adapter = Adapter(AdapterInfo("width-24", layers, ("knife",), (-9.0, 0.0))).eval()
    adapter.out.bias.data.fill_(-4)
    adapter.input_std.fill_(0.01)
    return adapter


def test_the_documentation_has_every_class():
    page = Path(__file__).resolve().parents[3].joinpath("docs", "COMPATIBILITY.md").read_text(encoding="utf-8")
    section = page.split("\n## On diffusers\n")[1].split("\n## ")[0]
    missing = [name for name in (*LAYOUTS, *REASONS) if f"`{name}`" not in section]
    assert missing == []
