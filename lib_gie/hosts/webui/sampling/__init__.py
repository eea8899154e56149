"""One generation of the WebUI, from its first batch to its last."""
