"""Growth Inhibitors: the WebUI's way in. Everything is in lib_gie/hosts/webui."""

from lib_gie.hosts.webui.start import GrowthInhibitorsScript, register  # noqa: F401

register()
