"""Adapters: their description, the model, files of this project and of the authors' code."""

from lib_gie.core.scales.files import MAX_FILE_BYTES, read_file
from lib_gie.core.scales.input_range import InputRange, fit_range
from lib_gie.core.scales.metadata import FORMAT, MAX_SIDE

from .authors import convert_authors
from .files import (
    adapter_in,
    add_validation,
    header_in,
    load_adapter,
    read_header,
    save_adapter,
)
from .info import MAX_INPUTS, AdapterInfo
from .model import ADAPTER, HIDDEN, Adapter, filled

__all__ = [
    "ADAPTER",
    "FORMAT",
    "HIDDEN",
    "MAX_FILE_BYTES",
    "MAX_INPUTS",
    "MAX_SIDE",
    "Adapter",
    "AdapterInfo",
    "InputRange",
    "adapter_in",
    "add_validation",
    "convert_authors",
    "filled",
    "fit_range",
    "header_in",
    "load_adapter",
    "read_file",
    "read_header",
    "save_adapter",
]
