"""The settings section "Growth Inhibitors": what is always erased, the presets, and what judges need.

No API request and no infotext can change them. Whoever may open the settings page may: what the command line enforces
is out of their reach (see ``enforcement``).
"""

from __future__ import annotations

import gradio as gr
from modules import shared

from lib_gie.hosts.webui.host import demo_checkpoint
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.hosts.webui.request.plans import CALIBRATE
from lib_gie.options import AUTOMATIC, BY_NAME
from lib_gie.training.judges import JUDGES, judge_class, setting_key

from .presets import SETTING as PRESETS
from .presets import check_setting

SECTION = ("growth_inhibitors", "Growth Inhibitors")


def _adapter_arguments() -> dict:
    return {"choices": adapter_names()}


def add_settings() -> None:
    """Add the section: the WebUI's on_ui_settings callback."""
    for name, info in {**_of_enforcement(), **_of_pictures_and_training()}.items():
        info.section = SECTION
        shared.opts.add_option(name, info)


def _of_enforcement() -> dict[str, shared.OptionInfo]:
    strength, scale = BY_NAME["strength"], BY_NAME["scale"]
    return {
        "gie_enforced_concepts": shared.OptionInfo(
            "", "Concepts that are erased from every image", gr.Textbox, {"lines": 2}, restrict_api=True
        ).info(
            "separated by commas, as in the accordion; applies to every request, also to the API's, with the accordion "
            "off; users can add to them and not take away. They come on top of those of --gie-enforce, which nothing "
            "here weakens. The tab that trains adapters goes at the next start, unless --gie-tab on is given"
        ),
        "gie_enforced_adapter": shared.OptionInfo(
            AUTOMATIC, "Adapter for them", gr.Dropdown, _adapter_arguments, restrict_api=True
        ),
        "gie_enforced_strength": shared.OptionInfo(
            1.0, "Strength for them", gr.Slider,
            {"minimum": 0.1, "maximum": strength.high, "step": strength.step}, restrict_api=True,
        ),
        "gie_enforced_scale": shared.OptionInfo(
            scale.default, "Scale for them, with the fixed scale or where no adapter fits", gr.Slider,
            {"minimum": scale.low, "maximum": -0.25, "step": scale.step}, restrict_api=True,
        ),
        "gie_enforced_floor": shared.OptionInfo(
            0.0, "Least scale for them", gr.Slider,
            {"minimum": scale.low, "maximum": 0.0, "step": 0.05}, restrict_api=True,
        ).info("no image's scale is weaker, also where the adapter sees no need; 0: none"),
        "gie_enforced_show_scale": shared.OptionInfo(
            False, "Write the scale that they got into infotexts", restrict_api=True
        ).info("a person who looks for a way round it sees there how near they are"),
    }  # fmt: skip


def _of_pictures_and_training() -> dict[str, shared.OptionInfo]:
    return {
        CALIBRATE: shared.OptionInfo(
            True, "Calibrate concepts that have no adapter", restrict_api=True
        ).info(
            "once for each concept and checkpoint, before the first image: at most 1,000 UNet evaluations, as many as "
            "25 images of 20 steps; Skip goes on with the fixed scale. For what an admin always erases, this setting "
            "does not count, but --gie-enforce-calibrated"
        ),
        PRESETS: shared.OptionInfo(
            HOST.presets, "Presets", gr.Textbox, {"lines": 5}, onchange=check_setting, restrict_api=True
        ).info(
            "buttons that fill in concepts. Each line has a name, a colon and concepts, for example: nudity: nudity, "
            "naked. Nothing changes where a line cannot be read"
        ).needs_reload_ui(),
        "gie_save_before": shared.OptionInfo(False, "Save the images without erasure, where they are shown"),
        "gie_save_attention": shared.OptionInfo(False, "Save the pictures of the attention, where they are shown"),
        **_of_judges(),
        demo_checkpoint.OPTION: shared.OptionInfo(
            False, "Put the demo checkpoint among the checkpoints", onchange=demo_checkpoint.sync, restrict_api=True
        ).info("gie-demo: 64x64 pixels, 34 objects, five styles; press Apply settings, then choose it at the top"),
    }  # fmt: skip


def _of_judges() -> dict[str, shared.OptionInfo]:
    return {
        setting_key(name, setting): shared.OptionInfo("", setting.label, restrict_api=True).info(setting.note)
        for name in JUDGES
        for setting in judge_class(name).settings
    }
