"""Paths of what comes with the project, in a checkout and in an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib_gie import assets

NAMES = [name for name in vars(assets) if name.isupper()]


@pytest.mark.parametrize("name", NAMES)
def test_all_of_it_is_there(name):
    assert getattr(assets, name).exists()


def test_models_lie_beside_the_package_in_a_checkout(tmp_path):
    package = tmp_path / "lib_gie"
    package.mkdir()
    assert assets.models_folder(package) == tmp_path / "models"


def test_models_within_the_package_come_before_strangers_beside_it(tmp_path):
    within = tmp_path / "lib_gie" / "models"
    within.mkdir(parents=True)
    (tmp_path / "models").mkdir()
    assert assets.models_folder(tmp_path / "lib_gie") == within


def test_adapters_of_an_installed_package_go_into_the_current_folder(tmp_path):
    package = tmp_path / "lib_gie"
    package.mkdir()
    assert assets.own_folder(package) == tmp_path / "models"
    (package / "models").mkdir()
    assert assets.own_folder(package) == Path()


def test_paths_need_no_library():
    """The WebUI's start reads them before it has loaded anything."""
    code = "import sys, lib_gie.assets\n"
    code += "assert not {'torch', 'numpy', 'safetensors', 'importlib.metadata'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
