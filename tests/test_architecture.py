"""Who imports whom in snnlib: the table in CONTRIBUTING.md, read from the code."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "snnlib"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

FOR_ALL = {"checks"}  # whoever takes arguments may check them; these stand in no row

# module: the modules of ours that it imports. CONTRIBUTING.md shows the same table
# and says why an arrow is there; change both together.
MAY_IMPORT: dict[str, set[str]] = {
    "augment": set(),
    "checks": set(),
    "claims": set(),
    "distributed": set(),
    "divergence": set(),
    "encoding": set(),
    "ff_goodness": set(),
    "ff_kernels": set(),
    "ff_labels": set(),
    "intervals": set(),
    "lanes": set(),
    "memory": set(),
    "networks": set(),
    "places": set(),
    "plotting": set(),
    "run_record": set(),
    "scan_triton": set(),
    "settings": set(),
    "side_by_side": set(),
    "steady_triton": set(),
    "stopping": set(),
    "surrogate": set(),
    "bench_results": {"places"},
    "checkpoints": {"places"},
    "data": {"places"},
    "environment": {"data"},
    "own_images": {"data"},
    "event_bits": {"lanes"},
    "forward_forward": {"divergence", "ff_goodness", "ff_labels", "known_layers", "readout"},
    "fused_kernels": {"lanes"},
    "metrics": {"intervals"},
    "neurons": {"surrogate"},
    "readout": {"intervals"},
    "presets": {"settings"},
    "records": {"checkpoints", "places", "run_record"},
    "scan": {"neurons", "scan_triton", "surrogate"},
    "sparse_kernels": {"lanes"},
    "steady": {"neurons", "steady_triton", "surrogate"},
    "bptt": {"neurons", "surrogate"},
    "event_kernels": {"event_bits", "lanes"},
    "faults": {"neurons", "surrogate"},
    "sparse": {"lanes", "sparse_kernels"},
    "ff_settings": {"settings"},
    "ff_presets": {"ff_settings"},
    "flags": {"claims", "ff_presets", "places", "presets"},
    "known_layers": {"networks", "neurons", "surrogate"},
    "walks": {"known_layers", "neurons", "scan"},
    "fused": {"fused_kernels", "known_layers", "lanes", "neurons", "scan", "sparse", "surrogate"},
    "theory": {"neurons"},
    "training": {"data", "divergence", "metrics", "places", "readout"},
    "events": {"event_bits", "event_kernels", "lanes", "neurons", "surrogate"},
    "ff_post": {
        "data",
        "divergence",
        "encoding",
        "ff_goodness",
        "ff_kernels",
        "ff_labels",
        "ff_layers",
        "ff_presets",
        "known_layers",
        "readout",
        "scan",
        "surrogate",
    },
    "ff_layers": {
        "encoding",
        "events",
        "ff_goodness",
        "ff_presets",
        "forward_forward",
        "known_layers",
        "neurons",
        "readout",
        "scan",
        "steady",
    },
    "ff_pairs": {
        "encoding",
        "ff_goodness",
        "ff_labels",
        "ff_layers",
        "ff_presets",
        "forward_forward",
        "readout",
    },
    "ff_heads": {
        "ff_goodness",
        "ff_labels",
        "ff_layers",
        "ff_pairs",
        "ff_presets",
        "forward_forward",
        "readout",
    },
    "ff_backprop": {"ff_layers", "ff_pairs", "ff_presets", "forward_forward", "readout"},
    "ff_conv": {
        "ff_goodness",
        "ff_layers",
        "ff_pairs",
        "ff_presets",
        "ff_settings",
        "forward_forward",
        "steady",
    },
    "ff_rules": {"ff_backprop", "ff_conv", "ff_heads", "ff_pairs"},
    "ff_training": {
        "augment",
        "data",
        "divergence",
        "ff_pairs",
        "ff_presets",
        "ff_rules",
        "own_images",
    },
    "engines": {
        "encoding",
        "events",
        "faults",
        "fused",
        "known_layers",
        "networks",
        "neurons",
        "presets",
        "readout",
        "walks",
    },
    "anytime": {
        "divergence",
        "encoding",
        "engines",
        "events",
        "known_layers",
        "presets",
        "readout",
        "walks",
    },
    "ff_stored": {"data", "ff_post", "ff_presets", "ff_rules", "records"},
    "ff_experiments": {
        "checkpoints",
        "data",
        "environment",
        "ff_post",
        "ff_presets",
        "ff_training",
        "intervals",
        "metrics",
        "own_images",
        "records",
    },
    "assembly": {
        "augment",
        "data",
        "distributed",
        "engines",
        "environment",
        "own_images",
        "presets",
        "readout",
        "training",
    },
    "reproduction": {"claims", "ff_presets", "intervals", "presets", "records"},
    "experiments": {
        "anytime",
        "assembly",
        "checkpoints",
        "claims",
        "data",
        "distributed",
        "environment",
        "ff_experiments",
        "intervals",
        "own_images",
        "presets",
        "records",
        "training",
    },
    "stored_weights": {
        "assembly",
        "checkpoints",
        "data",
        "engines",
        "ff_stored",
        "own_images",
        "places",
        "presets",
        "readout",
        "records",
        "reproduction",
        "training",
    },
    "cli": {
        "claims",
        "distributed",
        "environment",
        "experiments",
        "flags",
        "places",
        "records",
        "reproduction",
        "run_files",
        "side_by_side",
        "stopping",
        "training",
    },
    "__main__": {"cli"},
    "run_files": {"checkpoints", "data", "places", "records"},
}


def imports(module: str) -> set[str]:
    """Read the modules of ours that a module imports, anywhere in its text."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = f"snnlib.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    ours = {name.split(".")[1] for name in names if name.startswith("snnlib.")}
    return ours & set(MODULES) - FOR_ALL


def table_in_contributing() -> dict[str, set[str]]:
    """Read the rows ``| `module` | what | `imports` ... |``."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, flags=re.M)
    return {module: set(re.findall(r"`(\w+)`", cells)) for module, cells in rows}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_exactly_what_the_table_says(module):
    assert imports(module) == MAY_IMPORT.get(module), (
        "change the table in both places, or the import"
    )


def test_the_table_names_only_modules_that_exist():
    assert sorted(MAY_IMPORT) == MODULES


def test_contributing_shows_the_same_table():
    assert table_in_contributing() == MAY_IMPORT


def test_imports_point_downwards_only():
    tuple(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError on a circle


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    lines = (PACKAGE / f"{module}.py").read_text(encoding="utf-8").count("\n")
    assert lines <= 340, f"{module}.py has {lines} lines: split it where it tells two stories"


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = (
        "import sys, snnlib; print(sorted({'torch', 'numba', 'spikingjelly'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_nothing_but_the_command_line_prints():
    talkers = set()
    for module in MODULES:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        if any(isinstance(call, ast.Name) and call.id == "print" for call in calls):
            talkers.add(module)
    assert talkers <= {"cli", "__main__"}


def test_no_module_picks_a_device_by_itself():
    for module in set(MODULES) - {"cli", "environment"}:
        text = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
        assert ".cuda()" not in text, (
            f"{module}: tensors live on the device of the tensor that came"
        )
