"""A doctor for broken set-ups: it reads what is installed, and loads what it doubts."""

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from snnlib.mnist.originals import cache_folder, read_originals
from snnlib.records import environment
from snnlib.records.environment import first_line, processor

Finding = tuple[bool, str]

# To load these takes ten seconds; a name, and the module of it that the book needs.
WITH_TORCH = {
    "torch": "torch",
    "torchvision": "torchvision",
    "spikingjelly": "spikingjelly.activation_based.neuron",
}


def diagnose(thorough: bool = False) -> tuple[list[Finding], bool]:
    """Examine this installation.

    torch and what builds on it are loaded where their files raise a doubt, or where a GPU
    may be: then only they can tell. Else their files are compared with the list that was
    written down at installation, and what they need with what is there. All else is loaded.

    Args:
        thorough: Load them in any case.

    Returns:
        One line per examination: whether it is well, and a sentence; a sentence
        about a fault says what to do. And whether torch was loaded.
    """
    doubts = {name: doubt_about(name) for name in WITH_TORCH}
    loads = thorough or any(doubts.values()) or may_have_gpu()
    light = [_package(name) for name in ("numba", "matplotlib", "safetensors")]
    if loads:
        heavy = [_torch(), _torchvision(), _spikingjelly()]
        heavy = [(well, _why(text, doubts)) for well, text in heavy]
        return [_python(), *heavy, *light, _devices(), _mnist()], True
    heavy = [(True, _as_installed(name)) for name in WITH_TORCH]
    return [_python(), *heavy, *light, (True, _processor_only()), _mnist()], False


def doubt_about(name: str) -> str:
    """Why a package may not load, as far as its files tell; empty where nothing says so."""
    try:
        return _doubt_about(name)
    except Exception as error:  # what cannot be read may be loaded all the same
        return f"its files cannot be examined: {first_line(error)}"


def _doubt_about(name: str) -> str:
    try:
        installed = importlib.metadata.distribution(name)
    except PackageNotFoundError:
        return "it is not installed"
    spec = importlib.util.find_spec(name)
    place = Path(str(installed.locate_file(f"{name}/__init__.py")))
    found = spec.origin if spec is not None and spec.origin is not None else ""
    if not (place.exists() and os.path.exists(found) and os.path.samefile(found, place)):
        return f"it is not where it was installed, in {place.parent}"
    needs = _need_unmet("snnlib", name) or _need_unmet(name)
    return needs or _other_build(name, place.parent) or _files_lost(installed)


def _other_build(name: str, folder: Path) -> str:
    """Whether a package lacks what the book needs, or was built for another torch."""
    if name == "spikingjelly" and not (folder / "activation_based").is_dir():
        return "it has no activation_based"
    torch_spec = importlib.util.find_spec("torch") if name == "torchvision" else None
    if torch_spec is None or torch_spec.origin is None:
        return ""
    built, torch_built = _build(folder), _build(Path(torch_spec.origin).parent)
    return "" if built == torch_built else f"its build is {built}, and that of torch {torch_built}"


def _build(folder: Path) -> str:
    """What a package was built for, say ``cpu`` or ``cu132``, in the version that it tells."""
    try:
        text = (folder / "version.py").read_text(encoding="utf-8")
    except OSError:
        return "not told"
    found = re.search(r"^__version__[^=]*= *['\"][^'\"+]*\+?([^'\"]*)", text, flags=re.M)
    return (found and found[1]) or "not told"


def _files_lost(installed: Distribution) -> str:
    """Files that are not there, or not of the size that was written down at installation."""
    if installed.files is None:
        return "nobody wrote down which files belong to it"
    known = [(file, file.size) for file in installed.files if file.size is not None]
    lost = [file for file, size in known if _size(str(file.locate())) != size]
    return f"{len(lost)} of its files are missing or changed, as {lost[0]}" if lost else ""


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _need_unmet(name: str, only: str = "") -> str:
    """What a package needs that is missing or of another version; ``only`` asks for one need."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(name) or []
    except PackageNotFoundError:  # snnlib, run from its folder
        return ""
    for need in map(Requirement, lines):
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        if only and need.name != only:
            continue
        try:
            found = importlib.metadata.version(need.name)
        except PackageNotFoundError:
            return f"{name} needs {need.name}, which is not installed"
        if not need.specifier.contains(found, prereleases=True):
            return f"{name} needs {need.name}{need.specifier}, and {found} is installed"
    return ""


def may_have_gpu() -> bool:
    """Whether there is a GPU's device file or driver, or an Apple processor."""
    if any(Path(place).exists() for place in ("/dev/nvidia0", "/dev/kfd")):
        return True
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    driver = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        return shutil.which("nvidia-smi") is not None
    return True


def _as_installed(name: str) -> str:
    n_files = len(importlib.metadata.distribution(name).files or [])
    text = f"{name} {importlib.metadata.version(name)}"
    return f"{text} (not loaded; its {n_files} files and what it needs are there)"


def _why(text: str, doubts: dict[str, str]) -> str:
    """Add to the line about a package that is well why it was loaded all the same."""
    doubt = doubts.get(text.split()[0])  # a line about a fault says "torch:"
    return f"{text} (loaded since {doubt})" if doubt else text


def _python() -> Finding:
    major, minor = platform.python_version_tuple()[:2]
    text = f"Python {platform.python_version()} in {sys.prefix}"
    if (int(major), int(minor)) < (3, 11):
        return False, f"{text} is too old: snnlib and SpikingJelly 2 need 3.11 or newer"
    return True, text


def _examine(name: str, look: Callable[[], str], advice: dict[str, str]) -> Finding:
    """Import a package and describe it; turn a known error into advice."""
    try:
        text = f"{name} {importlib.metadata.version(name)}{look()}"
        unmet = _other_version(name)
        return (False, f"{unmet}; python -m pip install -U {name}") if unmet else (True, text)
    except Exception as error:  # a broken installation may raise anything
        help_text = [cure for sign, cure in advice.items() if sign in str(error)]
        cure = help_text[0] if help_text else f"reinstall it: python -m pip install -U {name}"
        return False, f"{name}: {first_line(error)}; {cure}"


def _other_version(name: str) -> str:
    try:
        return _need_unmet("snnlib", name)
    except ImportError:  # without packaging nobody can tell
        return ""


def _torch() -> Finding:
    return _examine("torch", lambda: _imported("torch"), {})


def _torchvision() -> Finding:
    cure = (
        "torch and torchvision come from different builds (one for CPU only, one for GPU). "
        "Install both again in one command, from one place: "
        "python -m pip install --force-reinstall torch torchvision"
    )
    return _examine(
        "torchvision",
        lambda: _imported("torchvision"),
        {"torchvision::nms does not exist": cure, "partially initialized": cure},
    )


def _spikingjelly() -> Finding:
    cure = (
        "this SpikingJelly is older than the name activation_based (formerly clock_driven): "
        'python -m pip install -U "spikingjelly>=2.0"'
    )
    look = lambda: _imported(WITH_TORCH["spikingjelly"])  # noqa: E731
    return _examine("spikingjelly", look, {"activation_based": cure})


def _package(name: str) -> Finding:
    cure = f"bring both to versions that go together: python -m pip install -U {name} numpy"
    return _examine(name, lambda: _imported(name), {"NumPy": cure, "numpy": cure})


def _imported(module: str) -> str:
    """Import a module; a file of the user's of that name, say ``numba.py``, is another one."""
    importlib.import_module(module)
    package = sys.modules[module.partition(".")[0]]
    if not (hasattr(package, "__version__") or hasattr(package, "__path__")):
        raise ImportError(f"{package.__file__} is imported in its place, rename that file")
    return ""


def _processor_only() -> str:
    """The line about devices where nothing speaks for a GPU."""
    cores = "1 processor core" if os.cpu_count() == 1 else f"{os.cpu_count()} processor cores"
    return f"{cores}, {processor()}; no driver of a GPU, none is needed"


def _devices() -> Finding:
    try:
        import torch

        n_threads = torch.get_num_threads()
    except Exception:  # reported by _torch already
        return True, f"{os.cpu_count()} processor cores"
    text = f"{n_threads} {'thread' if n_threads == 1 else 'threads'} on {processor()}"
    if torch.cuda.is_available():
        if fault := environment.fault_of("cuda"):
            cure = "install torch for this GPU, see pytorch.org; until then the CPU is used"
            return False, f"{text}; the GPU does not compute: {fault}; {cure}"
        return True, f"{text}; GPU {torch.cuda.get_device_name()} computes"
    if torch.backends.mps.is_available():
        fault = environment.fault_of("mps")
        told = f"does not compute: {fault}" if fault else "computes; --device mps takes it"
        return True, f"{text}; the Apple GPU {told}"
    return True, f"{text}; no GPU, none is needed"


def _mnist() -> Finding:
    """The files of all 70,000 images; a label is a byte, behind a head of 8."""
    name = "SNNLIB_CACHE" if os.environ.get("SNNLIB_CACHE") else None
    try:
        folder = cache_folder()
        train, test = (len(read_originals(folder, name, part)[1]) - 8 for part in ("train", "t10k"))
    except Exception as error:
        return False, f"MNIST: {first_line(error)}"
    held = f"{train} training and {test} test images"
    return True, f"MNIST, in the package itself: {held} (original files, SHA-256 verified)"
