"""Growth Inhibitors: the WebUI's way in. Everything is in lib_gie/webui."""

from lib_gie.webui.start import GrowthInhibitorsScript, register  # noqa: F401

register()
