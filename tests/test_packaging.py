"""The wheel, installed into an environment that does not see the checkout; and the package's public names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import not_run
import pytest

import lib_gie
from lib_gie import assets

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Installed:
    """A new environment with the wheel in it. ``folder`` is empty, for commands to run in."""

    python: Path
    script: Path
    folder: Path

    def run(self, *command: str | Path) -> str:
        """Return what the command prints. It has neither the checkout nor this process' folders on its path."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIE_"))}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason=not_run.HATCHLING)
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    """A .pth file adds the running environment's libraries, but not what its own .pth files add: the checkout."""
    base = tmp_path_factory.mktemp("installed")
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(base / "env")
    context = builder.ensure_directories(base / "env")
    python = Path(context.env_exe)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "running.pth").write_text("\n".join(libraries) + "\n")
    pip("--python", python, "install", "--no-index", "--no-deps", "--force-reinstall", wheel)
    (base / "elsewhere").mkdir()
    return Installed(python, Path(context.bin_path) / "lib-gie", base / "elsewhere")


def files_of_the_project() -> set[str]:
    """Return all files of the package and of models/, by their names in a wheel."""
    folders = {"lib_gie": ROOT / "lib_gie", "lib_gie/models": assets.MODELS}
    found = {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in folders.items()
        for path in folder.rglob("*")
    }
    return {name for name, path in found.items() if path.is_file() and "__pycache__" not in name}


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files_of_the_project()
    assert {
        "lib_gie/py.typed",
        "lib_gie/hosts/diffusers/sd1.yaml",
        "lib_gie/models/demo/text_encoder/vocab.json",
    } <= names


def test_every_asset_is_in_the_installed_package(installed):
    code = (
        "import json; from lib_gie import assets\n"
        "print(json.dumps([[name, str(path), path.exists()] for name, path in vars(assets).items() if name.isupper()]))"
    )
    found = json.loads(installed.run(installed.python, "-c", code))
    assert {name for name, _, _ in found} == {name for name in vars(assets) if name.isupper()}
    for name, path, exists in found:
        assert exists, f"{name} is not in the wheel: {path}"
        assert Path(path).is_relative_to(installed.python.parents[1].resolve())


def test_the_starter_lists_are_installed(installed):
    code = "from lib_gie.training.prompts import starter_lists; print(*starter_lists())"
    assert installed.run(installed.python, "-c", code).split() == [
        "artist-style",
        "demo-object",
        "demo-style",
        "nudity",
        "object",
        "violence",
    ]


def test_erase_runs_from_the_wheel(installed):
    command = [
        installed.script, "erase", "a cat and a knife", "--erase", "knife", "--adapter", "demo-knife",
        "--steps", "3", "--out", "out", "--json",
    ]  # fmt: skip
    report = json.loads(installed.run(*command))
    (scale,), = report["concepts"][0]["scales"]  # fmt: skip
    assert scale < 0
    before, after = ((installed.folder / "out" / f"{name}.png").read_bytes() for name in ("before", "after"))
    assert before != after


def test_train_writes_beside_the_caller_and_erase_finds_it(installed):
    """The package's own folder is replaced by its next version."""
    prompts = [f"a knife on a {colour} background" for colour in ("white", "blue", "green", "pink", "teal", "gray")]
    prompts += [
        "[unrelated]",
        *[f"a {name}" for name in ("cat", "dog", "car", "house", "tree", "rose", "star")],
    ]
    (installed.folder / "prompts.txt").write_text("\n".join(prompts))
    command = [
        installed.script, "train", "--concept", "knife", "--prompts", "prompts.txt", "--out", "my-knife",
        "--seeds", "1", "--steps", "2", "--epochs", "5", "--json",
    ]  # fmt: skip
    assert json.loads(installed.run(*command))["file"] == "my-knife.safetensors"
    assert (installed.folder / "my-knife.safetensors").is_file()
    code = (
        "from lib_gie.assets import MODELS\nfrom lib_gie.cli.erase import adapter_path\n"
        "print(adapter_path('my-knife'), adapter_path('demo-knife').parent == MODELS, len(list(MODELS.glob('my-*'))))"
    )
    assert installed.run(installed.python, "-c", code).split() == ["my-knife.safetensors", "True", "0"]


def test_both_ways_of_calling_it_say_the_version(installed):
    expected = f"growth-inhibitors {lib_gie.__version__}\n"
    assert installed.run(installed.script, "--version") == expected
    assert installed.run(installed.python, "-m", "lib_gie", "--version") == expected


def test_the_metadata_has_version_licence_and_script(wheel):
    with zipfile.ZipFile(wheel) as file:
        texts = {Path(name).name: file.read(name) for name in file.namelist() if ".dist-info/" in name}
    metadata = texts["METADATA"].decode()
    assert f"\nVersion: {lib_gie.__version__}\n" in metadata
    assert "\nLicense-Expression: MIT AND OFL-1.1\n" in metadata
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"lib-gie = lib_gie.cli:main" in texts["entry_points.txt"]


def test_the_version_is_the_changelogs():
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == lib_gie.__version__


# -- public names ------------------------------------------------


def test_public_names_are_there():
    for name in lib_gie.__all__:
        assert getattr(lib_gie, name) is not None
        assert name in dir(lib_gie)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lib_gie.nothing  # noqa: B018


def test_the_import_loads_no_library():
    """The WebUI's start imports it ahead of torch, and has no diffusers at all."""
    code = (
        "import sys, lib_gie\n"
        "assert not {'torch', 'numpy', 'diffusers', 'importlib.metadata', 'lib_gie.errors'} & set(sys.modules)\n"
        "lib_gie.parse_concepts, lib_gie.GieError\n"
        "assert 'torch' not in sys.modules\n"
        "lib_gie.load_adapter\n"
        "assert 'torch' in sys.modules and 'diffusers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
