"""Run the chapters and keep their stored outputs the same from run to run.

    python tools/notebooks.py execute [chapter ...]   run in place, store outputs
    python tools/notebooks.py check [chapter ...]     the rules of chapter_rules.py
    python tools/notebooks.py try [chapter ...]       run with the versions installed, store nothing
    python tools/notebooks.py warm                    run what the site needs, in parallel
    python tools/notebooks.py setup                   write the Colab cell into each chapter

A chapter is named by the start of its file name, ``03`` for instance. Running
twice changes nothing: no time stamps, cell names made from the cells' text,
fixed metadata. Each run starts in an empty folder, so a chapter proves that it
needs the installed package and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import repository
from chapter_rules import CHAPTER_RULES, KERNELSPEC, LANGUAGE, NOTEBOOK_RULES, SETUP, code_cells
from chapter_rules import colab_setup as has_colab_setup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
TIMEOUT = 600


def notebooks(names: list[str] | None = None) -> list[Path]:
    """List the notebooks of the book, or those whose names begin with one of ``names``."""
    found = sorted(BOOK.glob("chapters/*.ipynb")) + sorted(BOOK.glob("*.ipynb"))
    if not names:
        return found
    stems = [Path(name).stem for name in names]
    for stem in stems:
        if not any(path.stem.startswith(stem) for path in found):
            raise SystemExit(f"no notebook begins with {stem!r}: {[p.stem for p in found]}")
    return [path for path in found if path.stem.startswith(tuple(stems))]


def read(path: Path) -> Any:
    """Read a notebook as version 4."""
    return nbformat.read(path, as_version=4)


def run(notebook: Any) -> float:
    """Run all cells in an empty folder and return the seconds it took."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        resources = {"metadata": {"path": empty}}
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name=KERNELSPEC["name"],
            resources=resources,
            record_timing=False,
        )
        client.execute()
    return time.perf_counter() - start


def steady(notebook: Any) -> Any:
    """Give a copy in which only the text of cells and outputs can differ."""
    cells: list[Any] = []
    seen: set[str] = set()
    for cell in notebook.cells:
        clean = {key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata}
        identity = _identity(cell.source, seen)
        if cell.cell_type == "code":
            new = nbformat.v4.new_code_cell(cell.source, metadata=clean, id=identity)
            new.execution_count = cell.execution_count
            new.outputs = _joined(cell.outputs)
        else:
            new = nbformat.v4.new_markdown_cell(cell.source, metadata=clean, id=identity)
        cells.append(new)
    metadata = {"kernelspec": dict(KERNELSPEC), "language_info": dict(LANGUAGE)}
    if "colab" in notebook.metadata:
        metadata["colab"] = notebook.metadata["colab"]
    steady_one = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    steady_one.nbformat_minor = 5
    return steady_one


def _identity(source: str, seen: set[str]) -> str:
    stem = hashlib.sha1(source.encode()).hexdigest()[:8]
    k = 0
    while f"{stem}-{k}" in seen:
        k += 1
    seen.add(f"{stem}-{k}")
    return f"{stem}-{k}"


def _joined(outputs: list[Any]) -> list[Any]:
    """Join pieces of one stream, which arrive cut at random places."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last["text"] += output.text
        else:
            joined.append(output.copy())
    return joined


def execute(paths: list[Path], jobs: int) -> bool:
    """Run chapters in place; a chapter that fails keeps its old outputs."""

    def one(path: Path) -> str:
        notebook = steady(read(path))
        seconds = run(notebook)
        nbformat.write(steady(notebook), path)
        return f"{path.stem}: {seconds:.0f} s"

    return _all(one, paths, jobs)


def attempt(paths: list[Path], jobs: int) -> bool:
    """Run chapters and store nothing: do they run with the versions installed here?"""

    def one(path: Path) -> str:
        notebook = read(path)
        seconds = run(notebook)
        outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
        noise = sum(output.get("name") == "stderr" for output in outputs)
        return f"{path.stem}: {seconds:.0f} s" + (f", {noise} warnings" if noise else "")

    return _all(one, paths, jobs)


def warm(jobs: int) -> bool:
    """Run, side by side, the notebooks whose outputs the site's cache does not hold.

    Jupyter Book runs one after the other; filled beforehand, it finds all done.
    """
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    sys.path.insert(0, str(BOOK / "_ext"))
    from bookfix import refresh_cache

    refresh_cache(BOOK / "_build")
    cache = get_cache(BOOK / "_build" / ".jupyter_cache")
    missing = [path for path in notebooks() if not _is_cached(cache, read(path))]

    def one(path: Path) -> tuple[Path, Any, float]:
        notebook = read(path)
        return path, notebook, run(notebook)

    def keep(result: tuple[Path, Any, float]) -> str:
        path, notebook, seconds = result
        data = {"execution_seconds": seconds}
        bundle = CacheBundleIn(notebook, str(path), data=data)
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        return f"{path.stem}: {seconds:.0f} s"

    return _all(one, missing, jobs, keep)


def _is_cached(cache: Any, notebook: Any) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def _all(
    work: Callable[[Path], Any], paths: list[Path], jobs: int, keep: Callable[[Any], str] = str
) -> bool:
    """Do ``work`` on all paths, ``jobs`` at a time, telling each result; False if one fails."""
    well = True
    with ThreadPoolExecutor(jobs) as pool:
        futures = {path: pool.submit(work, path) for path in paths}
        for path, future in futures.items():
            try:
                print(keep(future.result()), flush=True)
            except (CellExecutionError, CellTimeoutError) as error:
                well = False
                print(f"{path.stem}: failed\n{error}", file=sys.stderr, flush=True)
    return well


def problems(path: Path) -> list[str]:
    """Name all rules that a notebook breaks."""
    notebook = read(path)
    is_chapter = path.parent.name == "chapters"
    found = [
        f"{rule.__name__}: {sentence}"
        for rule in (CHAPTER_RULES if is_chapter else NOTEBOOK_RULES)
        for sentence in rule(notebook)
    ]
    address = repository.current()
    return found + [f"colab_setup: {s}" for s in has_colab_setup(notebook, *address)]


def check(paths: list[Path]) -> bool:
    """Print what breaks a rule."""
    found = [f"{path.stem}: {sentence}" for path in paths for sentence in problems(path)]
    print("\n".join(found) or f"{len(paths)} notebooks keep all rules")
    return not found


def setup(paths: list[Path]) -> bool:
    """Write the Colab set-up as the first code cell of each chapter."""
    owner, name = repository.current()
    source = SETUP.replace("{owner}", owner).replace("{name}", name)
    for path in paths:
        notebook = read(path)
        first = code_cells(notebook)[0]
        if not first.source.startswith("# Colab set-up"):
            first = nbformat.v4.new_code_cell(execution_count=0)
            notebook.cells.insert(1, first)
        first.source, first.metadata["tags"] = source, ["remove-cell"]
        nbformat.write(steady(notebook), path)
    return True


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["execute", "check", "try", "warm", "setup"])
    parser.add_argument("chapters", nargs="*", help="starts of file names; all if none")
    parser.add_argument("--jobs", type=int, default=2, help="chapters run side by side")
    given = parser.parse_intermixed_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two kernels must not fight for the cores
    os.environ.pop("MPLBACKEND", None)  # the kernel chooses its own
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # no word about the debugger
    paths = notebooks(given.chapters)
    commands = {
        "execute": lambda: execute(paths, given.jobs),
        "check": lambda: check(paths),
        "try": lambda: attempt(paths, given.jobs),
        "warm": lambda: warm(given.jobs),
        "setup": lambda: setup(paths),
    }
    sys.exit(not commands[given.command]())


if __name__ == "__main__":
    main()
