"""The always-on script. It only builds the page. ``guard`` does the work, where errors cannot be swallowed."""

from __future__ import annotations

from modules import scripts

from lib_gie.hosts.webui.request.parsing import TITLE


class GrowthInhibitorsScript(scripts.Script):
    """Adds the accordion to the txt2img and img2img tabs."""

    erases_concepts = True

    def title(self) -> str:
        """Return the name in the page and in the API's ``alwayson_scripts``."""
        return TITLE

    def show(self, is_img2img: bool):
        """Return that it is always on, in both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list:
        """Build the accordion; return its components in the order of the API's positional arguments."""
        from .accordion import build_accordion  # imports the WebUI's gradio components: not before a page is built
        from .pasted import PASTE_NAMES

        components, self.infotext_fields = build_accordion(is_img2img)
        self.paste_field_names = PASTE_NAMES
        return components
