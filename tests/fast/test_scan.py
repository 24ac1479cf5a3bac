"""A scan gives the spikes of the plain loop and the gradient that autograd finds for it."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snnlib.fast.scan import choose_backend, neuron_scan
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid

SETTINGS = [
    {"v_reset": v_reset, "detach_reset": detach, "v_threshold": threshold}
    for v_reset, detach, threshold in itertools.product([0.0, -0.3, None], [True, False], [1, 0.6])
]
NEURONS = [IFParameters(**s) for s in SETTINGS] + [
    LIFParameters(tau=tau, decay_input=decay, **s)
    for s, (tau, decay) in itertools.product(SETTINGS, [(2.0, True), (1.7, False)])
]


def run(scan, currents, neuron, surrogate, weights, **options):
    currents = currents.clone().requires_grad_()
    spikes = scan(currents, neuron, surrogate, **options)
    (spikes * weights).sum().backward()
    return spikes.detach(), currents.grad


def plain(currents, neuron, surrogate):
    return simulate(currents, neuron, surrogate).spikes


@pytest.mark.parametrize("surrogate", [ATan(), ATan(3.5), Sigmoid()], ids=str)
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_scan_equals_autograd_through_the_plain_loop(neuron, surrogate):
    generator = torch.Generator().manual_seed(3)
    currents = 2 * torch.rand(13, 4, 5, dtype=torch.float64, generator=generator) - 0.3
    weights = torch.randn(13, 4, 5, dtype=torch.float64, generator=generator)

    spikes, gradient = run(neuron_scan, currents, neuron, surrogate, weights)
    expected_spikes, expected = run(plain, currents, neuron, surrogate, weights)

    assert 0 < spikes.mean() < 1
    torch.testing.assert_close(spikes, expected_spikes, rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_a_neuron_fires_exactly_at_its_threshold():
    currents = torch.tensor([[2.0], [2.0 - 2**-20]])
    torch.testing.assert_close(neuron_scan(currents, LIFParameters()), torch.tensor([[1.0], [0.0]]))


def test_half_precision_currents_are_added_up_in_float32():
    # 256 + 1 is 256 in bfloat16: a sum in that type would stop growing and never fire.
    currents = torch.ones(300, 1, dtype=torch.bfloat16)
    spikes = neuron_scan(currents, IFParameters(v_threshold=300.0))
    assert spikes.dtype == torch.bfloat16
    assert spikes.flatten().tolist() == [0.0] * 299 + [1.0]


def test_without_a_gradient_nothing_is_kept():
    spikes = neuron_scan(torch.rand(5, 2), LIFParameters())
    assert spikes.grad_fn is None


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_currents_without_a_time_step_are_refused(shape):
    with pytest.raises(ValueError, match="currents"):
        neuron_scan(torch.zeros(shape), LIFParameters())


def test_engine_is_refused_by_name_and_forced_by_the_environment(monkeypatch):
    currents = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="engine"):
        neuron_scan(currents, LIFParameters(), engine="cuda")
    assert choose_backend(currents, ATan()) == "torch"
    monkeypatch.setenv("SNNLIB_SCAN", "triton")
    assert choose_backend(currents, ATan()) == "triton"
    with pytest.raises(ValueError, match="ATan"):
        neuron_scan(currents, LIFParameters(), Sigmoid())


KERNEL_CHECK = """
import itertools, torch
from snnlib.neurons import IFParameters, LIFParameters
from snnlib.fast.scan import neuron_scan
from snnlib.surrogate import ATan
generator = torch.Generator().manual_seed(5)
for T, shape in [(1, (1,)), (2, (1,)), (9, (3, 50))]:
    currents = 2 * torch.rand(T, *shape, generator=generator) - 0.3
    weights = torch.randn(T, *shape, generator=generator)
    for reset, detach, kind in itertools.product([0.0, -0.25, None], [True, False], range(3)):
        same = dict(v_reset=reset, detach_reset=detach)
        neuron = IFParameters(**same) if kind == 0 else LIFParameters(
            tau=2.0, decay_input=kind == 1, **same)
        results = []
        for engine in ("torch", "triton"):
            x = currents.clone().requires_grad_()
            spikes = neuron_scan(x, neuron, ATan(), engine=engine)
            (spikes * weights).sum().backward()
            results.append((spikes.detach(), x.grad))
        assert torch.equal(results[0][0], results[1][0]), neuron
        torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-5)
print("same")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_kernels_in_their_interpreter_equal_the_torch_loop():
    # Triton can run a kernel on the CPU in its interpreter, slowly but with the same meaning.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL_CHECK], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_check_for_gpus_runs_to_its_end_in_the_interpreter_of_triton():
    script = Path(__file__).resolve().parents[2] / "bench" / "check_gpu.py"
    shown = subprocess.run(
        [sys.executable, str(script), "--skip-times"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["passed"]
    assert len(found["checks"]) > 10
    assert found["worst_gradient_error_float32"] < 1e-4
