"""The rules a chapter keeps, each as one function that names what breaks it.

A rule gets a notebook and yields sentences; no sentence means that it holds.
``tests/test_book.py`` and ``python tools/notebooks.py check`` both run them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from percentages import unfounded

Notebook = Any
Rule = Callable[[Notebook], Iterator[str]]

KERNELSPEC = {"name": "python3", "display_name": "Python 3"}
LANGUAGE = {"name": "python"}
IGNORED = "nbval-ignore-output"
SKIPPED = "nbval-skip"
KNOWN_TAGS = {IGNORED, SKIPPED, "remove-cell", "hide-cell", "hide-input", "hide-output"}
MIME_TYPES = {"text/plain", "text/html", "text/markdown", "image/png"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~])/(?:home|root|tmp|work|Users|usr|var|opt|mnt)/\w|\b[A-Z]:\\\w"
)
ADDRESS_IN_MEMORY = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
SITE_ONLY = re.compile(r"```\{|\{(?:eq|cite|numref|ref|doc|glue)(?::\w+)?\}`")
SETUP = """\
# Colab set-up: does nothing where snnlib is already installed.
import importlib.metadata
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("snnlib") is None:
    keep = "torch==" + importlib.metadata.version("torch")  # Colab's own build
    source = "snnlib @ git+https://github.com/{owner}/{name}"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", keep, source],
        check=True,
    )"""


def code_cells(notebook: Notebook) -> list[Any]:
    """Pick the code cells that hold something."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def prose(notebook: Notebook) -> str:
    """Join the Markdown cells, without the blocks of code in them."""
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return re.sub(r"^(```+|~~~+)(?!\{).*?^\1", "", text, flags=re.M | re.S)


def tags(cell: Any) -> set[str]:
    """Give the tags of a cell."""
    return set(cell.metadata.get("tags", ()))


def name(cell: Any) -> str:
    """Name a cell by its first line, to find it again."""
    return repr(cell.source.strip().splitlines()[0][:60])


def asserts(source: str) -> bool:
    """Tell whether a cell claims something: ``assert`` or a call of ``assert_...``."""
    return any(_is_assert(node) for node in ast.walk(ast.parse(source)))


def _is_assert(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return getattr(called, "attr", getattr(called, "id", "")).startswith("assert")


def one_title(notebook: Notebook) -> Iterator[str]:
    """One heading of the first level, in the first cell."""
    titles = re.findall(r"^# .+", prose(notebook), flags=re.M)
    if len(titles) != 1 or not notebook.cells[0].source.startswith("# "):
        yield f"one title at the very start, found {titles}"


def width(notebook: Notebook) -> Iterator[str]:
    """Code within 79 columns: the page is narrow."""
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            if len(line) > 79:
                yield f"{len(line)} columns: {line.strip()[:60]!r}"


def stored_outputs(notebook: Notebook) -> Iterator[str]:
    """Every cell was run, in order; without outputs nbval compares nothing."""
    counts = [c.execution_count for c in code_cells(notebook) if SKIPPED not in tags(c)]
    if None in counts or counts != sorted(counts):
        yield "not executed from top to bottom: make notebooks"


def clean_outputs(notebook: Notebook) -> Iterator[str]:
    """No error, no stderr, only kinds of output that read everywhere."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{name(cell)} ends in {output.ename}"
            if output.get("name") == "stderr":
                yield f"{name(cell)} writes to stderr: {output.text[:80]!r}"
            for kind in set(output.get("data", ())) - MIME_TYPES:
                yield f"{name(cell)} puts out {kind}"


def same_everywhere(notebook: Notebook) -> Iterator[str]:
    """No path of one machine, no address in memory."""
    for cell in code_cells(notebook):
        printed = "\n".join(
            o.get("text", o.get("data", {}).get("text/plain", "")) for o in cell.outputs
        )
        for text in (cell.source, printed):
            if found := MACHINE_PATH.search(text):
                yield f"{name(cell)} holds an absolute path: {text[found.start() :][:40]!r}"
        if ADDRESS_IN_MEMORY.search(printed):
            yield f"{name(cell)} prints an address in memory"


def pictures_described(notebook: Notebook) -> Iterator[str]:
    """Each cell that draws says in its metadata what is to be seen."""
    for cell in code_cells(notebook):
        if any("image/png" in o.get("data", {}) for o in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if len(alt) < 30:
                yield f"{name(cell)} needs alt text of a sentence in mystnb.image.alt, has {alt!r}"


def checked_by_nbval(notebook: Notebook) -> Iterator[str]:
    """Unchecked outputs are few, and an ``assert`` close by makes the claim."""
    cells = code_cells(notebook)
    loose = [i for i, cell in enumerate(cells) if tags(cell) & {IGNORED, SKIPPED}]
    if 3 * len(loose) >= len(cells):
        yield f"{len(loose)} of {len(cells)} code cells are not compared, a third or more"
    for i in loose:
        if not any(asserts(cell.source) for cell in cells[i : i + 4]):
            yield f"{name(cells[i])} is not compared, and no assert follows within three cells"
        if any("not run yet" in str(output) for output in cells[i].outputs):
            yield f"{name(cells[i])} says 'not run yet', which goes stale unless it is compared"
    for cell in cells:
        if unknown := tags(cell) - KNOWN_TAGS:
            yield f"{name(cell)} has tags {sorted(unknown)}; known are {sorted(KNOWN_TAGS)}"
        if "NBVAL_" in cell.source:
            yield f"{name(cell)}: use a tag, the comment shows on the page"


def stems_in_arrays(notebook: Notebook) -> Iterator[str]:
    """``stem`` is given arrays; before matplotlib 3.11, Colab's too, it stops at a tensor."""
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "stem":
                for drawn in filter(_may_be_a_tensor, node.args[:2]):
                    yield f"{name(cell)}: stem({ast.unparse(drawn)}) needs .numpy() or .tolist()"


def _may_be_a_tensor(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return not isinstance(node, ast.List | ast.Tuple)
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return called not in {"numpy", "tolist", "range"}


def readable_unrendered(notebook: Notebook) -> Iterator[str]:
    """Markdown that Colab shows as well: no directive, no role."""
    for found in SITE_ONLY.finditer(prose(notebook)):
        yield f"{found[0]!r} is raw text in Colab"


def typeset_numbers(notebook: Notebook) -> Iterator[str]:
    r"""A numbered equation breaks lines by ``\cr``: with ``\\`` the page shows an error instead."""
    for equation in re.findall(r"\$\$(.*?)\$\$", prose(notebook), flags=re.S):
        if r"\tag" in equation and r"\\" in equation:
            yield rf"an equation with \tag breaks its lines by \cr, not \\: {equation.strip()[:60]}"


def typed_percentages(notebook: Notebook) -> Iterator[str]:
    """No percentage in text, captions or alt text but claims, records and definitions."""
    described = [cell.metadata.get("mystnb", {}) for cell in notebook.cells]
    captions = [told.get("figure", {}).get("caption", "") for told in described]
    pictures = [told.get("image", {}).get("alt", "") for told in described]
    for text in (prose(notebook), *captions, *pictures):
        yield from unfounded(text)


def steady_metadata(notebook: Notebook) -> Iterator[str]:
    """Only metadata with a meaning, so that a diff shows changes alone."""
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        yield f"kernelspec is {notebook.metadata.get('kernelspec')}"
    if notebook.metadata.get("language_info") != LANGUAGE:
        yield f"language_info is {notebook.metadata.get('language_info')}"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - {"tags", "mystnb"}:
            yield f"cell metadata {sorted(extra)}"


def colab_setup(notebook: Notebook, owner: str, repository: str) -> Iterator[str]:
    """The first code cell installs the package in Colab and is the same everywhere."""
    first = code_cells(notebook)[0]
    if first.source != SETUP.replace("{owner}", owner).replace("{name}", repository):
        yield "the first code cell is not the Colab set-up: python tools/notebooks.py setup"
    if "remove-cell" not in tags(first):
        yield "the Colab set-up needs the tag remove-cell"


def check_cell(notebook: Notebook) -> Iterator[str]:
    """At least one cell begins with ``# Check``, asserts, and prints that it passed."""
    checks = [c for c in code_cells(notebook) if c.source.startswith("# Check")]
    if not checks:
        yield "no cell begins with '# Check'"
    for cell in checks:
        if not asserts(cell.source) or not cell.outputs:
            yield f"{name(cell)} must assert and print one fixed line"


def exercise(notebook: Notebook) -> Iterator[str]:
    """At least one exercise, and each solution is folded and proves itself."""
    if not re.search(r"^#+ .*exercise", prose(notebook), flags=re.M | re.I):
        yield "no heading with 'Exercise'"
    solutions = [c for c in code_cells(notebook) if "hide-cell" in tags(c)]
    if not solutions:
        yield "no solution with the tag hide-cell"
    for cell in solutions:
        end = ast.parse(cell.source).body[-2:]
        if not any(_is_assert(getattr(node, "value", node)) or _is_assert(node) for node in end):
            yield f"the solution {name(cell)} must end in an assert (a print may follow)"


def numbered_headings(notebook: Notebook) -> Iterator[str]:
    """Chapter N holds sections ``## N.1 Title``, ``## N.2 Title`` ..., without a gap."""
    chapter = notebook.cells[0].source.removeprefix("# ").split()[0]
    sections = re.findall(r"^## (.*)", prose(notebook), flags=re.M)
    for number, heading in enumerate(sections, start=1):
        if not heading.startswith(f"{chapter}.{number} "):
            yield f"the heading {heading!r} must begin with {chapter}.{number}"


# Rules for every notebook, and those that a numbered chapter keeps besides.
NOTEBOOK_RULES: tuple[Rule, ...] = (
    one_title,
    width,
    stored_outputs,
    clean_outputs,
    same_everywhere,
    pictures_described,
    checked_by_nbval,
    stems_in_arrays,
    readable_unrendered,
    typeset_numbers,
    typed_percentages,
    steady_metadata,
)
CHAPTER_RULES: tuple[Rule, ...] = (
    *NOTEBOOK_RULES,
    check_cell,
    exercise,
    numbered_headings,
)
