"""The files of a training: the adapter, where the admin lets it be trained, and the calibration that it begins with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.errors import OptionError
from lib_gie.hosts.library import kept_calibration
from lib_gie.hosts.webui.request.enforcement import enforced_adapters, enforced_keys
from lib_gie.hosts.webui.request.installed import adapter_folders, calibrations_folder

from .work_order import WorkOrder, check_name

if TYPE_CHECKING:
    from .image_maker import WebUIImageMaker


def allowed_path(order: WorkOrder) -> Path:
    """Return where the adapter goes.

    Raises OptionError where it may not be trained, or would take another's place.
    """
    if Concept(order.bare_concept).key in enforced_keys():
        raise OptionError(
            f"this WebUI erases {quoted(order.concept)} from every image, so there would be none with it to learn "
            f"from. Its admin must train the adapter on a WebUI that does not"
        )
    return check_name(order, adapter_folders(), enforced_adapters())


def calibration_of(maker: WebUIImageMaker, concept: str) -> Calibration | None:
    """Return the calibration of a concept on the checkpoint that is trained on, if this WebUI keeps one."""
    found = kept_calibration(Concept(concept).key, maker.weights, maker.conditions["clip_skip"], calibrations_folder())
    return found.adapter if found is not None and isinstance(found.adapter, Calibration) else None
