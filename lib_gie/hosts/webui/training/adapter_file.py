"""The file of an adapter that is trained here, where this WebUI's admin lets it be trained."""

from __future__ import annotations

from pathlib import Path

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.errors import OptionError
from lib_gie.hosts.webui.request.enforcement import enforced_adapters, enforced_keys
from lib_gie.hosts.webui.request.installed import adapter_folders

from .work_order import WorkOrder, check_name


def allowed_path(order: WorkOrder) -> Path:
    """Return where the adapter goes.

    Raises OptionError where it may not be trained, or would take another's place.
    """
    if Concept(order.bare_concept).key in enforced_keys():
        raise OptionError(
            f"this WebUI erases {quoted(order.concept)} from every image, so there would be none with it to learn "
            f"from; its admin can train the adapter on a WebUI that does not"
        )
    return check_name(order, adapter_folders(), enforced_adapters())
