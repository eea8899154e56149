"""The core in AUTOMATIC1111's WebUI. Only the modules that must talk to the host import ``modules``."""
