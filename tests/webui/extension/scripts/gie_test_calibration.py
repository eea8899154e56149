"""Routes for tests/webui/test_first_use.py: the setting that no API request can change, and kept calibrations."""

import importlib
import sys

from modules import script_callbacks, shared


def calibrates(wanted: bool) -> bool:
    """Set whether concepts are calibrated on first use. Return what was set before."""
    before = shared.opts.data.get("gie_calibrate", True)
    shared.opts.data["gie_calibrate"] = wanted
    return before


def enforces(concepts: str) -> None:
    """Set the concepts that the settings enforce."""
    shared.opts.data["gie_enforced_concepts"] = concepts


def side(pixels: int) -> None:
    """Calibrate at this width and height: the usual ones of large families take minutes on a CPU."""
    calibration = importlib.import_module("lib_gie.hosts.webui.calibration")
    usual = importlib.import_module("lib_gie.hosts.webui.training.usual").usual_sampling
    calibration.usual_sampling = (lambda base: {**usual(base), "side": pixels}) if pixels else usual


def forget() -> list[str]:
    """Delete all calibrations and what was read for them. Return the names of the files."""
    folder = sys.modules["lib_gie.hosts.webui.request.installed"].adapter_folders()[-1]
    found = [*folder.glob("*-calibrated-*.safetensors"), *folder.glob("calibration/*.safetensors")]
    for path in found:
        path.unlink()
    return sorted(path.name for path in found)


def kept() -> list[str]:
    """Return the names of all calibrations."""
    folder = sys.modules["lib_gie.hosts.webui.request.installed"].adapter_folders()[-1]
    return sorted(path.stem for path in folder.glob("*-calibrated-*.safetensors"))


def add_routes(blocks, app):
    app.add_api_route("/gie-test/calibrates", calibrates)
    app.add_api_route("/gie-test/enforces", enforces)
    app.add_api_route("/gie-test/calibrations/side", side)
    app.add_api_route("/gie-test/calibrations/forget", forget)
    app.add_api_route("/gie-test/calibrations/kept", kept)


script_callbacks.on_app_started(add_routes)
