"""The tab's training makes, reads and judges each prompt in the state that an image of that prompt has.

The test extension's routes call it; ``make_files.py`` puts the LoRA and the hypernetwork in place.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, load_adapter, save_adapter
from lib_gie.training.fitting import READING

CONCEPT, INPUTS, ADAPTER = "balloon", 128, "gieprompt"
LORA, HYPERNETWORK = "<lora:gietest:60>", "<hypernet:gietest:20>"
PLAIN = "a cat and a knife"
ALIKE = 0.02
"""The most by which a number of the same image's latents may differ."""
LONG = f"{PLAIN}, {'a dog, ' * 60}"
PROMPTS = {
    "plain": PLAIN,
    "lora": f"{PLAIN} {LORA}",
    "weaker lora": f"{PLAIN} <lora:gietest:40>",
    "hypernetwork": f"{PLAIN} {HYPERNETWORK}",
    "emphasis": "a (cat:1.4) and a knife",
    "editing": "a [cat:dog:0.5] and a knife",
    "alternating": "a [cat|dog] and a knife",
    "and": "a cat AND a knife and a robbery :0.7",
    "negative part": "a cat AND a dog :-0.3",
    "long": LONG,
}


@pytest.fixture(scope="module")
def training(webui):
    def ask(route: str, **body):
        body.setdefault("concept", CONCEPT)
        return np.array(webui.get(f"gie-test/training/{route}", body))

    webui.call("options", {"CLIP_stop_at_last_layers": 1})
    return ask


@pytest.fixture(scope="module")
def adapter(webui):
    """One that is read as the tab trains them; its scale is -900 times what is read of the third head and less else."""
    path = webui.folder / "models" / "growth-inhibitors" / f"{ADAPTER}.safetensors"
    made = Adapter(AdapterInfo("gie-demo", INPUTS, (CONCEPT,), (-20.0, 0.0), READING))
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
        made.hidden[0].weight[0] = torch.linspace(0.5, 2, INPUTS) / INPUTS
        made.hidden[1].weight[0, 0] = 1
        made.out.weight[0, 0] = -300
    save_adapter(made, path)
    yield load_adapter(path)
    path.unlink()


def leave_behind(webui, prompt: str = f"a robbery {LORA}") -> None:
    """Somebody's generation."""
    webui.txt2img(prompt, steps=1)


def alone(training, prompt: str, scale: float = 0.0) -> np.ndarray:
    return training("make", prompts=[prompt], seeds=[5], scales=[scale])[0]


@pytest.mark.parametrize("scale", [0.0, -1.5])
def test_a_batch_of_prompts_with_networks_of_their_own(webui, training, scale):
    """Each image is that of its prompt alone, whatever is first in the batch."""
    prompts = list(PROMPTS.values())
    leave_behind(webui)
    together = training("make", prompts=prompts, seeds=[5] * len(prompts), scales=[scale] * len(prompts))
    for prompt, found in zip(prompts, together, strict=True):
        leave_behind(webui, f"a robbery {HYPERNETWORK}")
        assert np.abs(found - alone(training, prompt, scale)).max() < ALIKE, prompt
    differences = [np.abs(found - together[0]).max() for found in together[1:]]
    assert min(differences) > 2 * ALIKE, differences


@pytest.mark.parametrize("name", PROMPTS)
def test_what_is_read_is_what_an_image_of_the_prompt_gives(webui, training, adapter, name):
    """The adapter's scale under a generation of that prompt, from the infotext."""
    text = webui.txt2img(PROMPTS[name], args=[{"concepts": CONCEPT, "adapter": ADAPTER}]).infotexts[0]
    parts = text.split("GIE scale: ")[1].split(",")[0].split("\n")[0].strip('"').split(" | ")
    expected = min(float(part) for part in parts)
    leave_behind(webui)
    others = [PROMPTS["plain"], LONG, PROMPTS[name]]  # the one that is looked at is not first
    read = torch.tensor(training("read", prompts=others)[-1:]).float()  # [1, inputs, n]
    assert float(adapter.scales(read, 1, read.shape[-1])) == pytest.approx(expected, rel=2e-3)


def test_readings_of_prompts_differ(training):
    """Or the tests above would say nothing."""
    read = dict(zip(PROMPTS, training("read", prompts=list(PROMPTS.values())), strict=True))
    first = {name: [other for other in PROMPTS if np.allclose(read[name], read[other], rtol=1e-4)] for name in PROMPTS}
    assert first == {
        **{name: [name] for name in ("lora", "weaker lora", "hypernetwork", "emphasis", "long")},
        **{name: ["plain", "editing", "alternating"] for name in ("plain", "editing", "alternating")},  # at first a cat
        **{name: ["and", "negative part"] for name in ("and", "negative part")},  # the part "a cat"
    }


@pytest.mark.parametrize("left", [LORA, HYPERNETWORK])
def test_what_a_generation_leaves_behind_changes_nothing(webui, training, left):
    leave_behind(webui, "a robbery")
    latents = [alone(training, PLAIN).tolist()]
    before = training("read", prompts=[PLAIN]), training("judge", prompts=[PLAIN], latents=latents)
    leave_behind(webui, f"a robbery {left}")
    after = training("read", prompts=[PLAIN])
    leave_behind(webui, f"a robbery {left}")
    assert np.array_equal(after, before[0])
    assert np.array_equal(training("judge", prompts=[PLAIN], latents=latents), before[1])


def test_tiling_that_a_generation_leaves_behind_changes_nothing(webui, training):
    latents = [alone(training, PLAIN).tolist()]
    before = training("judge", prompts=[PLAIN], latents=latents)
    webui.txt2img("a robbery", steps=1, tiling=True)
    assert np.array_equal(training("judge", prompts=[PLAIN], latents=latents), before)


def test_the_noise_schedule_that_a_generation_leaves_behind_changes_nothing(webui, training):
    webui.call("options", {"sd_noise_schedule": "Default"})  # else the WebUI does not put it back
    latents = [alone(training, PLAIN).tolist()]
    before = training("judge", prompts=[PLAIN], latents=latents)
    webui.txt2img("a robbery", steps=1, override_settings={"sd_noise_schedule": "Zero Terminal SNR"})
    assert np.array_equal(training("judge", prompts=[PLAIN], latents=latents), before)


def test_each_image_is_judged_by_the_model_that_made_it(webui, training):
    prompts = [PROMPTS["plain"], PROMPTS["lora"], PROMPTS["hypernetwork"]]
    latents = [alone(training, prompt).tolist() for prompt in prompts]
    together = training("judge", prompts=prompts, latents=latents)
    single = [training("judge", prompts=[p], latents=[one])[0] for p, one in zip(prompts, latents, strict=True)]
    np.testing.assert_allclose(together, single, rtol=1e-3, atol=1e-3)
    without = training("judge", prompts=[PLAIN] * 3, latents=latents)
    assert abs(without[0] - together[0]) < 1e-3
    assert all(abs(a - b) > 0.01 for a, b in zip(without[1:], together[1:], strict=True))


def test_labels_depend_on_the_settings_that_images_depend_on(webui):
    before = webui.get("gie-test/training/description")
    for name, value in (
        ("CLIP_stop_at_last_layers", 2),
        ("token_merging_ratio", 0.5),
        ("sd_vae", "gietest.safetensors"),
    ):
        kept = webui.call("options")[name]
        webui.call("options", {name: value})
        try:
            assert webui.get("gie-test/training/description") != before
        finally:
            webui.call("options", {name: kept})
    assert webui.get("gie-test/training/description") == before
