"""What the command line asks of the system."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from snnlib.environment import keep_freed_memory
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
