"""The pictures and texts beside the results, and the scripts that go over them after the sampling."""
