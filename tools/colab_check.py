"""Does "Run all" work in Colab? Every notebook, with Colab's versions and its way to install.

    python tools/colab_check.py                         a new environment from colab-pins.txt
    python tools/colab_check.py --environment PYTHON    one that exists: in Colab's own image

The wheel is installed by the first cell of a chapter, which finds it where the
repository would be. Notebooks then run in empty folders, without the checkout,
and torch must still be the one that was there before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tools" / "colab-pins.txt"
ENVIRONMENT = ROOT / ".venv-colab"
COLAB_PYTHON = "3.13"
PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text", "src")
LIST_VERSIONS = """\
import importlib.metadata as m, json
print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"""


def run(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a command and stop where it fails; the checkout is not on its path."""
    subprocess.run(command, cwd=folder, env=outside(), check=True)


def read(*command: str | Path, folder: Path) -> str:
    """Run a command and give what it prints."""
    shown = subprocess.run(
        command, cwd=folder, env=outside(), check=True, stdout=subprocess.PIPE, text=True
    )
    return shown.stdout.strip()


def outside() -> dict[str, str]:
    """Give this environment without what leads Python to other packages."""
    leads = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MPLBACKEND")
    return {name: value for name, value in os.environ.items() if name not in leads}


def create(python: str) -> Path:
    """Make a new environment with Colab's versions, and give its Python."""
    uv = (sys.executable, "-m", "uv")
    inside = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(*uv, "venv", "--quiet", "--clear", "--seed", "--python", python, ENVIRONMENT)
    run(*uv, "pip", "install", "--quiet", "--python", inside, "-r", PINS)
    return inside


def build_wheel(python: Path, folder: Path) -> Path:
    """Build the wheel from a copy, so that no older build of the checkout slips in."""
    source = folder / "source"
    source.mkdir()
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source)
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, folder=folder)
    return next(folder.glob("*.whl"))


def first_cell(wheel: Path) -> str:
    """Give the first cell of a chapter, with the wheel in place of the repository."""
    # Not at the top: what the rules import needs snnlib, which is not installed before.
    setup = json.loads((ROOT / "book" / "chapters" / "01_environment.ipynb").read_text("utf-8"))
    code = next(cell for cell in setup["cells"] if cell["cell_type"] == "code")
    lines = [line for line in code["source"] if "git+https://" in line]
    assert len(lines) == 1, "the first cell names the repository once"
    there = f'    source = "snnlib @ {wheel.as_uri()}"\n'
    return "".join(code["source"]).replace(lines[0], there)


def install(python: Path, empty: Path, wheel: Path) -> dict[str, str]:
    """Install as a reader does, and give all versions; torch may not change."""
    before = json.loads(read(python, "-c", LIST_VERSIONS, folder=empty))
    assert "snnlib" not in before, "snnlib is there already, so the first cell would do nothing"
    run(python, "-c", first_cell(wheel), folder=empty)
    after = json.loads(read(python, "-c", LIST_VERSIONS, folder=empty))
    changed = [f"{k} {v} -> {after.get(k)}" for k, v in before.items() if after.get(k) != v]
    print("changed by the first cell:", ", ".join(changed) or "nothing", flush=True)
    assert after["torch"] == before["torch"], "the first cell replaced Colab's own torch"
    return after


def check(python: Path, jobs: int) -> None:
    """Install, run every notebook and tell with which versions."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty"
        empty.mkdir()
        versions = install(python, empty, build_wheel(python, Path(folder)))
        asked = "import snnlib, sys; print(snnlib.__file__, sys.version.split()[0])"
        place, number = read(python, "-c", asked, folder=empty).rsplit(maxsplit=1)
        assert not Path(place).is_relative_to(ROOT / "src"), f"snnlib comes from {place}"
        run(python, ROOT / "tools" / "notebooks.py", "try", "--jobs", str(jobs), folder=empty)
    shown = ("torch", "numpy", "numba", "matplotlib", "ipykernel")
    told = ", ".join(f"{name} {versions[name]}" for name in shown)
    minutes = (time.perf_counter() - start) / 60
    print(f"every notebook ran with Python {number}, {told}, in {minutes:.0f} minutes")
    if not number.startswith(COLAB_PYTHON + "."):
        print(f"note: Colab's own Python was {COLAB_PYTHON} when the pins were read")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=COLAB_PYTHON, help="version or path, for a new one")
    parser.add_argument("--environment", type=Path, help="a Python to use as it is")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks run side by side")
    given = parser.parse_args()
    # Not resolved: a link from an environment to its Python must stay that link.
    python = Path(os.path.abspath(given.environment or create(given.python)))
    check(python, given.jobs)


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, subprocess.CalledProcessError) as error:
        sys.exit(f"colab check: {error}")
