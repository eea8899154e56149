"""Run by the WebUI at its start. Everything that the extension needs there, the WebUI has: nothing is installed."""
