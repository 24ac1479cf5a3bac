"""Who imports whom in snnlib: the table in CONTRIBUTING.md, read from the code."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import notebooks
import pytest
from chapter_rules import code_cells

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "snnlib"
# Every module by its dotted name without "snnlib.": "neurons", "fast.events", ...
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
}
FRONT = "front room"
FRONT_LINES = 3_030  # with hidden layers, conversion and counting operations

# folder: the folders whose modules its own may import. CONTRIBUTING.md shows the same
# table and says what happens in each; change both together, and say why.
MAY_IMPORT: dict[str, set[str]] = {
    "checks": set(),
    "mnist": {"checks"},
    FRONT: {"checks", "mnist"},
    "settings": {"checks"},
    "fast/kernels": set(),
    "fast": {FRONT, "checks", "fast/kernels"},
    "records": {FRONT, "checks", "settings"},
    "forward_forward": {FRONT, "checks", "settings", "fast"},
    "posts": {FRONT, "checks", "fast", "forward_forward"},
    "experiments": {FRONT, "checks", "settings", "fast", "records", "forward_forward", "posts"},
    "cli": {FRONT, "checks", "mnist", "settings", "records", "experiments"},
}


def folder_of(module: str) -> str:
    """The folder of a module, as the table names it."""
    path = MODULES[module]
    parts = path.parent.relative_to(PACKAGE).parts
    return "/".join(parts) or FRONT


def imports(module: str) -> set[str]:
    """The modules of ours that a module imports, anywhere in its text."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write imports with their full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    ours = {name.removeprefix("snnlib.") for name in names if name.startswith("snnlib.")}
    return ours & set(MODULES) - {module}


def arrows() -> dict[str, set[str]]:
    """Folder to the other folders that its modules import from."""
    found: dict[str, set[str]] = {folder: set() for folder in MAY_IMPORT}
    for module in MODULES:
        here = folder_of(module)
        found[here] |= {folder_of(other) for other in imports(module)} - {here}
    return found


def table_in_contributing() -> dict[str, set[str]]:
    """Read the rows ``| `folder` | what | `folders` ... |``."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/ ]+)` \|[^|]*\|([^|]*)\|$", text, flags=re.M)
    return {folder: set(re.findall(r"`([\w/ ]+)`", cells)) for folder, cells in rows}


def scripts() -> Iterator[tuple[str, str]]:
    """All that imports ours: name and text of each file of Python and each cell of code."""
    for folder in ("src", "tests", "tools", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in notebooks.notebooks():
        for cell in code_cells(notebooks.read(path)):
            yield path.name, cell.source


def brought_in(module: str) -> set[str]:
    """The names that a module has from others and gives no value of its own."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return {alias.asname or alias.name for node in froms for alias in node.names} - stored


def test_the_table_names_every_folder():
    assert {folder_of(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_exactly_what_the_table_says(folder):
    assert arrows()[folder] == MAY_IMPORT[folder], "change the table in both places, or the import"


def test_contributing_shows_the_same_table():
    assert table_in_contributing() == MAY_IMPORT


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_the_door_of_a_folder_names_all_that_is_in_it(folder):
    here = PACKAGE if folder == FRONT else PACKAGE / folder
    tree = ast.parse((here / "__init__.py").read_text(encoding="utf-8"))
    said = ast.get_docstring(tree, clean=False) or ""
    rows = re.findall(r"^ {4}((?:\w+, )*\w+) {2,}", said, flags=re.M)
    named = {name for row in rows for name in row.split(", ")}
    modules = {path.stem for path in here.glob("*.py")} - {"__init__", "__main__"}
    assert modules <= named, modules - named


def test_a_name_is_imported_from_its_one_home():
    """A folder's ``__init__`` may show what is in the folder; no other module passes names on."""
    elsewhere = {
        f"snnlib.{module}": brought_in(module)
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    found = [
        f"{script}: {alias.name} is not at home in {node.module}"
        for script, text in scripts()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in elsewhere.get(str(node.module), ())
    ]
    assert not found, found


def test_imports_point_downwards_only():
    graph = {module: imports(module) for module in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError on a circle
    tuple(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def test_the_front_room_can_be_read_in_an_afternoon():
    lines = {
        module: path.read_text(encoding="utf-8").count("\n")
        for module, path in MODULES.items()
        if folder_of(module) == FRONT
    }
    assert sum(lines.values()) < FRONT_LINES, lines


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 340, f"{module} has {lines} lines: split it where it tells two stories"


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = (
        "import sys, snnlib; print(sorted({'torch', 'numba', 'spikingjelly'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_forward_forward_loads_numba_only_for_poisson_input():
    code = (
        "import sys, snnlib.forward_forward.training, snnlib.forward_forward.judging; "
        "print(sorted({'numba', 'scipy', 'torch._dynamo', 'matplotlib'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_nothing_but_the_command_line_prints():
    talkers = set()
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        if any(isinstance(call, ast.Name) and call.id == "print" for call in calls):
            talkers.add(folder_of(module))
    assert talkers <= {"cli"}


def test_no_module_picks_a_device_by_itself():
    for module in set(MODULES) - {"cli.main", "records.environment"}:
        text = MODULES[module].read_text(encoding="utf-8")
        assert ".cuda()" not in text, (
            f"{module}: tensors live on the device of the tensor that came"
        )
