"""Routes for tests/webui's tests of calibrations: settings that no API request can change, and the kept files."""

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


def tells_scale(wanted: bool) -> None:
    """Set whether the scale of what is enforced is told."""
    shared.opts.data["gie_enforced_show_scale"] = wanted


def calibrates_enforced(wanted: bool) -> None:
    """Set what --gie-enforce-calibrated says."""
    shared.cmd_opts.gie_enforce_calibrated = "on" if wanted else "off"


def most(count: int) -> None:
    """Keep at most this many calibrations."""
    importlib.import_module("lib_gie.hosts.webui.calibration").MOST_KEPT = count


def folder():
    return sys.modules["lib_gie.hosts.webui.request.installed"].calibrations_folder()


def forget() -> list[str]:
    """Delete all calibrations and what was read for them. Return the names of the files."""
    found = [*folder().glob("*.safetensors"), *folder().glob("neutral/*.safetensors")]
    for path in found:
        path.unlink()
    return sorted(path.name for path in found)


def found():
    """Return all calibrations, sorted by name."""
    library = sys.modules["lib_gie.hosts.library"]
    files = [library.find_adapter(path.stem, [folder()]) for path in folder().glob("*.safetensors")]
    return sorted(files, key=lambda one: one.name)


def kept() -> dict[str, str]:
    """Return the digests of all calibrations by name."""
    return {one.name: one.digest for one in found()}


def strengths() -> dict[str, float]:
    """Return the scale of all calibrations where their concept is present in full, by name."""
    return {one.name: one.info.strength for one in found()}


def add_routes(blocks, app):
    app.add_api_route("/gie-test/calibrates", calibrates)
    app.add_api_route("/gie-test/enforces", enforces)
    app.add_api_route("/gie-test/enforces/scale", tells_scale)
    app.add_api_route("/gie-test/enforces/calibrates", calibrates_enforced)
    app.add_api_route("/gie-test/calibrations/side", side)
    app.add_api_route("/gie-test/calibrations/most", most)
    app.add_api_route("/gie-test/calibrations/forget", forget)
    app.add_api_route("/gie-test/calibrations/kept", kept)
    app.add_api_route("/gie-test/calibrations/strengths", strengths)


script_callbacks.on_app_started(add_routes)
