"""Alternating rounds: the fair way to compare two programs on a machine with other work.

All variants of a row run in one process and take turns; every round gives one
ratio, so whatever slows the machine down slows both sides of it. A row reports
the median ratio with the smallest and the largest, never one lucky number.
"""

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Idle threads should sleep: on a busy machine two that spin are slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from snnlib.checks.files import check_writable, named_path, write_whole
from snnlib.records.bench_results import FIGURES

Step = Callable[[], object]
PACKAGES = ("torch", "spikingjelly", "snntorch", "norse", "sinabs", "numba", "numpy")


def seconds(step: Step, repeats: int, clock: Callable[[], float]) -> float:
    """Mean seconds of one call."""
    start = clock()
    for _ in range(repeats):
        step()
    return (clock() - start) / repeats


def alternate(
    variants: dict[str, Step],
    n_images: int,
    rounds: int,
    *,
    least: float = 0.3,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Time variants in turn; the first is the one all others are compared with.

    Args:
        variants: Name to step, each one already warmed up by the first call here.
        n_images: Images per step.
        rounds: Number of rounds; each begins with another variant.
        least: A variant is repeated until a turn takes this many seconds.
        clock: CPU time of the process; ``time.perf_counter`` for wall time.

    Returns:
        Per variant: images per second, and the ratio to the first as median, min, max.
    """
    repeats = {}
    for name, step in variants.items():
        step()
        repeats[name] = max(1, round(least / seconds(step, 1, clock)))
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(seconds(variants[name], repeats[name], clock))
    result = {}
    for name in names:
        ratios = [a / b for a, b in zip(times[names[0]], times[name], strict=True)]
        result[name] = {
            "images_per_second": n_images / statistics.median(times[name]),
            "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "seconds": times[name],
        }
    return result


def compare(result: dict[str, Any], ours: str, peers: list[str]) -> dict[str, Any]:
    """How many times faster ``ours`` is than the fastest of ``peers``, round by round."""
    peer = min(peers, key=lambda name: statistics.median(result[name]["seconds"]))
    pairs = zip(result[peer]["seconds"], result[ours]["seconds"], strict=True)
    ratios = [theirs / mine for theirs, mine in pairs]
    return {
        "against": peer,
        "median": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
    }


def peak_mebibytes(step: Step, small_step: Step) -> float:
    """Peak memory of one training step above the start, in MiB (Linux only).

    ``small_step`` runs first, so that libraries and compiled kernels are loaded.
    """
    small_step()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the old peak
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def memory_of(variant: str) -> float:
    """Peak memory of one variant, measured by this script in a process of its own."""
    command = [sys.executable, sys.argv[0], "--memory", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    processor, flags = platform.processor(), set()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((x.split(":")[1].strip() for x in lines if "model name" in x), processor)
        flags = set(next((x.split(":")[1] for x in lines if x.startswith("flags")), "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor,
        "instructions": [flag for flag in wanted if flag in flags],
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def row(what: str, goal: float | None, figure: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One line of the table; ``figure`` has median, min, max and against."""
    met = None if goal is None else bool(figure["median"] >= goal)
    return {"what": what, "goal": goal, "met": met, **figure, **more}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | against | ratio: median [min..max] | goal | met |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for r in rows:
        figure = f"{r['median']:.1f}x [{r['min']:.1f}..{r['max']:.1f}]"
        goal = "" if r["goal"] is None else f">= {r['goal']:g}x"
        met = {None: "", True: "yes", False: "no"}[r["met"]]
        lines.append(f"| {r['what']} | {r['against']} | {figure} | {goal} | {met} |")
    return "\n".join(lines)


def arguments(description: str | None) -> argparse.Namespace:
    """The flags that both scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.json is not None:
        try:
            options.json = named_path("--json", options.json)
            check_writable("--json", options.json, FIGURES)
        except ValueError as error:
            parser.error(str(error))
    return options


def report(rows: list[dict[str, Any]], details: dict[str, Any], path: Path | None) -> None:
    """Print the table; write everything to ``path`` if there is one."""
    print(markdown(rows))
    if path is not None:
        data = {"machine": machine(), "rows": rows, "details": details}
        text = json.dumps(data, indent=1) + "\n"
        write_whole(path, lambda name: Path(name).write_text(text, encoding="utf-8"))


def one_thread() -> None:
    """Both sides of every ratio get one thread."""
    torch.set_num_threads(1)
