"""Where a run happens: versions, commit, device."""

import importlib.metadata
import logging
import platform
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import snnlib

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "spikingjelly", "numba", "triton")


def versions() -> dict[str, str]:
    """Versions of Python, snnlib and the packages that decide a result, if installed."""
    found = {"python": platform.python_version(), "snnlib": snnlib.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str, bool]:
    """The git commit of the package's source and whether its code was changed since.

    The ledger grows with every run and does not count as a change. Outside a
    checkout the answer is ``("unknown", False)``.
    """
    package = Path(snnlib.__file__).parent
    known = _git(package, "rev-parse", "HEAD")
    if known is None or _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return "unknown", False
    changed = _git(package, "status", "--porcelain", "--", ".", ":!results")
    return known, bool(changed)


def device_name(device: str) -> str:
    """What a device is called: ``cpu`` with its model, or the name of the GPU."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device} ({processor()})"


def pick_device(name: str) -> str:
    """The device that a setting names, for torch; ``"auto"`` takes a GPU of CUDA if it answers.

    A device is asked to compute a little before it is chosen: a GPU may be there, and
    torch have no code for it.

    Raises:
        ValueError: There is no such device, or it does not compute.
    """
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        if fault := fault_of("cuda"):
            logger.warning(f"device='auto' takes the CPU, since the GPU does not compute: {fault}")
            return "cpu"
        return "cuda"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:0 ..., got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r} was asked for, but torch sees no GPU; try device='cpu'")
    if device.type != "cpu" and (fault := fault_of(name)):
        raise ValueError(f"device={name!r} does not compute here: {fault}; try device='cpu'")
    return name


def fault_of(device: str) -> str:
    """What a device says when asked for one small product; empty if it computes it."""
    import torch

    try:
        if torch.device(device).type == "mps" and not torch.backends.mps.is_available():
            return "torch sees no Apple GPU"
        torch.Generator(device)
        ones = torch.ones(2, 2, device=device)
        answer = float((ones @ ones).sum())  # reading it waits for it
    except Exception as error:  # each backend has its own
        return first_line(error)
    return "" if answer == 8.0 else f"the sum of 2 x 2 ones times 2 x 2 ones was {answer}, not 8"


def has_bfloat16_instructions() -> bool | None:
    """Whether this processor computes in bfloat16 itself; ``None`` where nobody can tell.

    Without them every product takes a detour: matrix products and convolutions
    measured 15 to 20 times slower than in float32 on an AVX2 processor.
    """
    import torch

    if platform.machine().lower() in ("x86_64", "amd64"):
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        found = [getattr(torch.cpu, probe) for probe in probes if hasattr(torch.cpu, probe)]
        return any(probe() for probe in found) if found else None
    features = _cpuinfo("Features")  # ARM under Linux
    return "bf16" in features.split() if features else None


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for its own next tensors (glibc only).

    A training step frees and asks anew for the same large tensors. Handed back to the
    system in between, each of their pages is emptied and mapped again, which costs the
    convolutional network about a fifth of its time. Memory in use at the peak stays
    the same; what was freed is returned at the end of the process.

    Returns:
        Whether the system's allocator took the advice.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # names in malloc.h, see mallopt(3)
    try:
        advise = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system or another C library
        return False
    return bool(advise(mmap_threshold, 2**30)) and bool(advise(trim_threshold, 2**31 - 1))


def processor() -> str:
    """The model of the processor, read where Linux keeps it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def first_line(error: Exception) -> str:
    """What an error says, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".;") if lines else type(error).__name__


def stamp(preset: str, protocol: str, seed: int, device: Any) -> dict[str, Any]:
    """The fields of a record that say when, where and with which code it was made."""
    import torch

    known, changed = commit()
    now = datetime.now(UTC)
    return {
        "id": f"{preset}-{protocol}-s{seed}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        "versions": versions(),
        "commit": known,
        "dirty": changed,
        "device": device_name(str(device)),
        "threads": torch.get_num_threads(),
        "finished": now.isoformat(timespec="seconds"),
    }


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpuinfo(key: str) -> str:
    """What Linux says about its first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    return named[0] if named else ""
