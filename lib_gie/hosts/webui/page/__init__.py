"""The accordion, the settings, the X/Y/Z axes and the API."""
