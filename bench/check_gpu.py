"""Check the Triton scan on a GPU and time training steps with it; prints one JSON object.

    python bench/check_gpu.py                # everything
    python bench/check_gpu.py --skip-times   # the equality check only

Three ways compute the same scan on random settings: Triton in float32, the torch
loop in float32, and autograd through ``simulate`` in float64. Exit status 1 if a
spike or gradient differs by more than rounding explains.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnlib.fast.scan import choose_backend, neuron_scan
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.surrogate import ATan


def random_neuron(rng: random.Random) -> IFParameters:
    """A neuron with every setting drawn at random."""
    common: dict[str, Any] = {
        "v_threshold": rng.choice([1.0, 0.7, 1.3]),
        "v_reset": rng.choice([0.0, -0.2, None]),
        "detach_reset": rng.random() < 0.5,
    }
    if rng.random() < 0.3:
        return IFParameters(**common)
    return LIFParameters(tau=rng.choice([2.0, 1.5, 20.0]), decay_input=rng.random() < 0.5, **common)


def gradients(run: Callable[[Tensor], Tensor], currents: Tensor, weights: Tensor) -> Any:
    """Spikes of a run and the gradient of their weighted sum."""
    currents = currents.detach().clone().requires_grad_()
    spikes = run(currents)
    (spikes * weights.to(spikes)).sum().backward()
    assert currents.grad is not None
    return spikes.detach().double(), currents.grad.double()


def compare_once(rng: random.Random, device: str) -> dict[str, Any]:
    """One random setting; differences between the three ways, on equal spike trains."""
    neuron, surrogate = random_neuron(rng), ATan(rng.choice([2.0, 1.0, 4.0]))
    shapes = [(1, 1), (2, 7), (9, 200), (100, 128, 10), (4, 8, 64, 14, 14), (30, 300_001)]
    shape = rng.choice(shapes if device == "cuda" else shapes[:3])
    dtype = rng.choice([torch.float32, torch.float32, torch.bfloat16])
    currents = (2.5 * torch.rand(shape, device=device) - 0.3).to(dtype)
    weights = torch.randn(shape, device=device).to(dtype)
    ours, ours_grad = gradients(
        lambda x: neuron_scan(x, neuron, surrogate, engine="triton"), currents, weights
    )
    loop, loop_grad = gradients(
        lambda x: neuron_scan(x, neuron, surrogate, engine="torch"), currents, weights
    )
    exact, exact_grad = gradients(
        lambda x: simulate(x, neuron, surrogate).spikes, currents.double(), weights.double()
    )
    # Rounding may move a spike that falls on the threshold; compare the other neurons.
    same = ((ours == exact) & (ours == loop)).all(dim=0)
    scale = exact_grad.abs().max().item()
    error = ((ours_grad - exact_grad).abs() * same).max().item() / scale
    return {
        "neuron": repr(neuron),
        "shape": list(shape),
        "dtype": str(dtype),
        "spikes_unlike_torch": (ours != loop).float().mean().item(),
        "neurons_unlike_float64": 1 - same.float().mean().item(),
        "gradient_error_to_float64": error,
        "gradient_error_to_torch": ((ours_grad - loop_grad).abs() * same).max().item() / scale,
        # a bfloat16 gradient keeps 8 bits
        "passed": error < (1e-4 if dtype == torch.float32 else 8e-3)
        # and often lies exactly on a threshold that division by tau rounds either way
        and 1 - same.float().mean().item() < (1e-3 if dtype == torch.float32 else 0.05),
    }


class Scan(nn.Module):
    """A scan as a layer, so that both networks below read alike."""

    def __init__(self, neuron: IFParameters, engine: str) -> None:
        super().__init__()
        self.neuron, self.engine = neuron, engine

    def forward(self, currents: Tensor) -> Tensor:
        if self.engine == "autograd":
            return simulate(currents, self.neuron).spikes
        return neuron_scan(currents, self.neuron, ATan(), engine=self.engine)


class OverTime(nn.Module):
    """Apply a layer without memory to ``[T, N, ...]`` as to one batch of T * N."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def fc_network(engine: str) -> nn.Module:
    return nn.Sequential(
        OverTime(nn.Flatten(), nn.Linear(784, 10, bias=False)), Scan(LIFParameters(), engine)
    )


def csnn_network(engine: str) -> nn.Module:
    layers: list[nn.Module] = []
    for c_in in (1, 64):
        convolution = nn.Conv2d(c_in, 64, 3, padding=1, bias=False)
        layers += [OverTime(convolution, nn.BatchNorm2d(64)), Scan(IFParameters(), engine)]
        layers += [OverTime(nn.MaxPool2d(2))]
    layers += [OverTime(nn.Flatten(), nn.Linear(64 * 7 * 7, 1024, bias=False))]
    layers += [Scan(IFParameters(), engine), OverTime(nn.Linear(1024, 10, bias=False))]
    return nn.Sequential(*layers, Scan(IFParameters(), engine))


def time_step(network: nn.Module, n_steps: int, batch: int, device: str, poisson: bool) -> float:
    """Median milliseconds of a training step, after three to warm up."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    images = torch.rand(batch, 1, 28, 28, device=device)
    target = torch.eye(10, device=device)[torch.arange(batch, device=device) % 10]
    times = []
    for step in range(13):
        torch.cuda.synchronize()
        start = time.perf_counter()
        x = images.expand(n_steps, *images.shape)
        spikes = (torch.rand_like(x) < x).to(x) if poisson else x
        loss = nn.functional.mse_loss(network(spikes).mean(0), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()
        if step >= 3:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def time_all(device: str) -> list[dict[str, Any]]:
    """Training-step times of the two networks with each form of the neuron."""
    rows = []
    for name, build, n_steps in (("fc", fc_network, 100), ("csnn", csnn_network, 4)):
        for batch in (128, 512):
            for engine in ("triton", "torch", "autograd"):
                torch.manual_seed(0)
                torch.cuda.reset_peak_memory_stats()
                network = build(engine).to(device)
                ms = time_step(network, n_steps, batch, device, poisson=name == "fc")
                peak = torch.cuda.max_memory_allocated() / 2**20
                rows.append(
                    {"network": name, "batch": batch, "neurons": engine, "ms": round(ms, 3)}
                    | {"images_per_s": round(1000 * batch / ms), "peak_MiB": round(peak)}
                )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=40)
    parser.add_argument("--skip-times", action="store_true")
    arguments = parser.parse_args()
    # With TRITON_INTERPRET=1 the check itself can be tried where there is no GPU.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not os.environ.get("TRITON_INTERPRET"):
        print("no GPU found", file=sys.stderr)
        return 2
    rng = random.Random(1)
    torch.manual_seed(1)
    checks = [compare_once(rng, device) for _ in range(arguments.settings)]
    import triton

    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "interpreter",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "default_engine": choose_backend(torch.zeros(1, 1, device=device), ATan()),
        "passed": all(check["passed"] for check in checks),
        "worst_gradient_error_float32": max(
            c["gradient_error_to_float64"] for c in checks if c["dtype"] == "torch.float32"
        ),
        "failed": [check for check in checks if not check["passed"]],
        "times": [] if arguments.skip_times or device == "cpu" else time_all(device),
        "checks": checks,
    }
    print(json.dumps(report, indent=1))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
