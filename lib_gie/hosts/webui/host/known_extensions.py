"""Other extensions that were tried beside this one, as docs/COMPATIBILITY.md has them. This needs no WebUI."""

from __future__ import annotations

from dataclasses import dataclass

REGIONAL_PROMPTER_FILE = "rp.py"
NEGPIP_FILE = "negpip.py"


@dataclass(frozen=True)
class KnownExtension:
    """``name``: the documentation's; ``file``: one that only it has; ``advice``: what to set, empty for nothing."""

    name: str
    file: str
    advice: str = ""


KNOWN_EXTENSIONS = (
    KnownExtension("ADetailer", "scripts/!adetailer.py"),
    KnownExtension(
        "ControlNet",
        "scripts/controlnet.py",
        "its reference modes need the fused concept pass, without Keep composition",
    ),
    KnownExtension(
        "Dynamic Prompts",
        "scripts/dynamic_prompting.py",
        "where it leaves prompts as they were typed, see its issue 754",
    ),
    KnownExtension("incantations", "scripts/incantation_base.py"),
    KnownExtension(
        "Neutral Prompt", "lib_neutral_prompt/global_state.py", "do not use it with Regional Prompter's Latent mode"
    ),
    KnownExtension("NegPiP", f"scripts/{NEGPIP_FILE}", "Keep composition is refused with some prompts"),
    KnownExtension(
        "Regional Prompter",
        f"scripts/{REGIONAL_PROMPTER_FILE}",
        "its Prompt mode needs the fused concept pass, without Keep composition",
    ),
    KnownExtension(
        "Tiled Diffusion",
        "scripts/tilediffusion.py",
        "leave Show attention and its Noise Inversion off; an adapter may not suit its tiles",
    ),
)
