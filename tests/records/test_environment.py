"""What the command line asks of the system."""

import platform
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from snnlib.cli import main as cli
from snnlib.cli.main import main
from snnlib.experiments import engines
from snnlib.records import environment
from snnlib.settings.presets import PRESETS

COUNT_FAULTS = """
import resource, torch
from snnlib.records.environment import keep_freed_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000) + torch.ones(12_000_000)  # 48 MB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
before = faults()
took = keep_freed_memory()
faults()
print(took, before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the advice is for glibc")
def test_freed_memory_is_used_again_without_asking_the_system():
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    )
    took, before, after = done.stdout.split()
    assert took == "True"
    assert int(before) > 300  # three tensors ten times, in pages of 4 KiB or 2 MiB
    assert int(after) < int(before) / 5


def broken(monkeypatch, error=RuntimeError):
    def no_kernel(*shape, **options):
        raise error("CUDA error: no kernel image is available for execution\non the device")

    monkeypatch.setattr(torch, "Generator", lambda device: None)
    monkeypatch.setattr(torch, "ones", no_kernel)


def test_a_gpu_that_does_not_compute_is_not_chosen(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    broken(monkeypatch)
    assert environment.pick_device("auto") == "cpu"
    (record,) = caplog.records
    assert "the GPU does not compute: CUDA error: no kernel image is available" in record.message
    with pytest.raises(ValueError, match="device='cuda' does not compute here: CUDA error: no"):
        environment.pick_device("cuda")


def test_a_gpu_that_computes_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(environment, "fault_of", lambda device: "")
    assert environment.pick_device("auto") == "cuda"


def test_a_wrong_product_is_a_fault(monkeypatch):
    ones = torch.ones
    assert environment.fault_of("cpu") == ""
    monkeypatch.setattr(torch, "ones", lambda *shape, **options: 2 * ones(*shape, **options))
    assert "was 32.0, not 8" in environment.fault_of("cpu")


def test_an_apple_gpu_is_taken_where_it_computes_and_refused_where_not(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device='mps' does not compute here: torch sees no Apple"):
        environment.pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(environment, "fault_of", lambda device: "")
    assert environment.pick_device("mps") == "mps"


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "gpu", "cuda:99", "hpu"])
def test_a_device_that_is_not_there_ends_in_one_sentence(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is an Apple GPU")
    for preset in ("fc-quick", "ff-1"):
        assert main(["train", preset, "--device", name]) == 1
        said = capsys.readouterr().err
        assert said.startswith("snnlib: device")
        assert said.count("\n") == 1
        assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.ckpt"))


BROKEN_NUMBA = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            raise ImportError("Numba needs NumPy 2.3 or less. Got NumPy 2.4.")
sys.meta_path.insert(0, Finder())
import snnlib.fast.kernels.lanes
"""


def test_a_numba_that_cannot_be_imported_is_told_as_it_is():
    done = subprocess.run([sys.executable, "-c", BROKEN_NUMBA], capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    told = "it is installed, but cannot be imported (Numba needs NumPy 2.3 or less. Got NumPy 2.4.)"
    assert f"ImportError: The fast kernels of snnlib need numba; {told}" in said
    assert "pip install -U numba numpy" in said
    assert "pip install numba" not in said


def test_without_numba_auto_takes_another_engine_and_says_so_once(monkeypatch, caplog):
    def import_module(name):
        raise ImportError(f"numba is broken ({name})")

    monkeypatch.setattr(engines.importlib, "import_module", import_module)
    engines._say_once.cache_clear()
    cpu, fc = torch.device("cpu"), replace(PRESETS["fc"], engine="auto")
    assert [engines.choose_engine(fc, cpu) for _ in range(3)] == ["scan"] * 3
    (record,) = caplog.records
    reason = "numba is broken (snnlib.fast.events)"
    assert record.message == f"engine='auto' takes 'scan' in place of 'events': {reason}"
    with pytest.raises(ValueError, match=r"engine='events' does not run here: numba is broken"):
        engines.choose_engine(replace(fc, engine="events"), cpu)


def test_a_package_that_cannot_be_imported_ends_a_command_in_one_sentence(monkeypatch, capsys):
    def train(options, words):
        raise ImportError("numba is broken")

    monkeypatch.setitem(cli.COMMANDS, "train", train)
    assert main(["train", "ff-1"]) == 1
    assert capsys.readouterr().err == "snnlib: numba is broken\n"


@pytest.mark.parametrize("rounds", ["0", "-1"])
def test_a_bench_of_no_rounds_is_refused_before_it_measures(rounds, capsys, monkeypatch):
    assert main(["bench", "--rounds", rounds]) == 1
    message = f"snnlib: rounds must be a whole number of at least 1, got {rounds}\n"
    assert capsys.readouterr().err == message
    monkeypatch.setattr(sys, "argv", ["run.py", "--rounds", rounds])
    script = Path(environment.__file__).parents[3] / "bench" / "run.py"
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    assert f"--rounds must be at least 1, got {rounds}" in capsys.readouterr().err
