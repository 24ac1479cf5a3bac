"""The event engine gives the spikes, rates and gradients of the dense network, and fair coins."""

import logging
import math
import os
import subprocess
import sys
import types

import pytest
import torch
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate

from snnlib.fast import events
from snnlib.fast.events import poisson_linear_lif, poisson_spikes
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid

SETTINGS = [  # n_images, n_outputs, n_steps, neuron
    (5, 10, 100, LIFParameters()),
    (3, 10, 64, LIFParameters(detach_reset=True)),
    (4, 1, 65, LIFParameters(v_reset=None)),
    (2, 16, 128, LIFParameters(v_reset=None, detach_reset=True)),
    (3, 37, 30, LIFParameters(tau=4.0, decay_input=False, v_threshold=1.5)),
    (3, 20, 50, LIFParameters(tau=2.0, v_reset=-0.25, v_threshold=0.75)),
    (2, 33, 7, IFParameters()),
    (1, 3, 1500, LIFParameters(tau=8.0)),
    (1, 5, 1, LIFParameters()),
]


def make_images(n_images, n_pixels=90, seed=0):
    """Grey values with many black pixels, some white ones, on both sides of 1/2."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n_images, n_pixels, generator=generator)
    images[torch.rand(n_images, n_pixels, generator=generator) < 0.5] = 0
    images[:, 3] = 1
    return images


def make_weights(n_outputs, n_pixels=90, seed=1):
    """Multiples of 1/1024: their sums are exact in float32, in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-300, 500, (n_outputs, n_pixels), generator=generator) / 1024


def spikingjelly_rate(neuron, currents):
    common = {
        "v_threshold": neuron.v_threshold,
        "v_reset": neuron.v_reset,
        "step_mode": "m",
        "surrogate_function": sj_surrogate.ATan(),
    }
    if not isinstance(neuron, LIFParameters):
        return sj_neuron.IFNode(**common)(currents).mean(0)
    lif = sj_neuron.LIFNode(tau=neuron.tau, decay_input=neuron.decay_input, **common)
    return lif(currents).mean(0)


@pytest.mark.parametrize(("n_images", "n_outputs", "n_steps", "neuron"), SETTINGS)
def test_rates_equal_spikingjelly_on_the_same_spikes(n_images, n_outputs, n_steps, neuron):
    images, weight = make_images(n_images), make_weights(n_outputs)
    bias = torch.linspace(-0.5, 0.5, n_outputs).mul(1024).round() / 1024

    rate = poisson_linear_lif(images, weight, n_steps, neuron, seed=4, bias=bias)
    spikes = poisson_spikes(images, n_steps, seed=4)

    assert 0 < rate.mean() < 1
    assert torch.equal(rate, spikingjelly_rate(neuron, spikes @ weight.T + bias))


@pytest.mark.parametrize("surrogate", [ATan(), ATan(3.0), Sigmoid()], ids=str)
@pytest.mark.parametrize(("n_images", "n_outputs", "n_steps", "neuron"), SETTINGS)
def test_gradients_equal_float64_autograd(n_images, n_outputs, n_steps, neuron, surrogate):
    images = make_images(n_images)
    weight = make_weights(n_outputs).requires_grad_()
    bias = torch.full((n_outputs,), 0.125, requires_grad=True)
    exact_weight = weight.detach().double().requires_grad_()
    exact_bias = bias.detach().double().requires_grad_()
    weights_of_rates = torch.randn(
        n_images, n_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )

    rate = poisson_linear_lif(
        images, weight, n_steps, neuron, seed=4, surrogate=surrogate, bias=bias
    )
    (rate * weights_of_rates).sum().backward()
    currents = poisson_spikes(images, n_steps, seed=4).double() @ exact_weight.T + exact_bias
    exact = simulate(currents, neuron, surrogate).spikes.mean(0)
    (exact * weights_of_rates).sum().backward()

    for ours, theirs in ((weight.grad, exact_weight.grad), (bias.grad, exact_bias.grad)):
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_every_grey_level_fires_at_its_rate_and_black_and_white_are_certain():
    n_steps, n_images = 640, 20
    levels = torch.arange(256) / 255
    spikes = poisson_spikes(levels.expand(n_images, 256), n_steps, seed=11)

    assert spikes[..., 0].sum() == 0
    assert spikes[..., 255].min() == 1
    p = levels[1:255]
    error = spikes.mean((0, 1))[1:255] - p
    z = error / (p * (1 - p) / (n_steps * n_images)).sqrt()
    assert z.abs().max() < 4.5  # 254 normal draws pass 4.5 once in 600 seeds
    assert 0.8 < z.square().mean().sqrt() < 1.2  # 254 draws: standard error 0.044


@pytest.mark.parametrize("p", [0.2, 0.5, 0.51, 0.9])
def test_spikes_of_different_steps_pixels_and_images_are_uncorrelated(p):
    spikes = poisson_spikes(torch.full((40, 50), p), 256, seed=3)
    x = (spikes - p) / math.sqrt(p * (1 - p))
    pairs = {
        "next step": (x[:-1], x[1:]),
        "next word": (x[:-64], x[64:]),
        "next pixel": (x[..., :-1], x[..., 1:]),
        "next image": (x[:, :-1], x[:, 1:]),
    }
    for name, (a, b) in pairs.items():
        assert abs((a * b).sum().item() / math.sqrt(a.numel())) < 4.5, name


def test_seeds_give_other_spikes_and_more_steps_continue_the_same():
    images = make_images(4)
    spikes = poisson_spikes(images, 100, seed=1)
    assert not torch.equal(spikes, poisson_spikes(images, 100, seed=2))
    assert torch.equal(spikes, poisson_spikes(images, 200, seed=1)[:100])


def test_batches_and_threads_change_nothing():
    images, weight = make_images(200), make_weights(10)
    n_threads = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        weight = weight.detach().requires_grad_()
        rate = poisson_linear_lif(images, weight, 70, LIFParameters(), seed=9)
        assert torch.get_num_threads() == threads  # numba must not change torch's setting
        rate.square().sum().backward()
        results.append((rate.detach(), weight.grad))
    torch.set_num_threads(n_threads)
    parts = [
        poisson_linear_lif(images[a:b], weight, 70, LIFParameters(), seed=9, first_index=a)
        for a, b in ((0, 1), (1, 150), (150, 200))
    ]

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][0], torch.cat(parts))


def test_images_of_any_shape_and_an_empty_batch():
    images, weight = make_images(3), make_weights(10)
    flat = poisson_linear_lif(images, weight, 20, LIFParameters(), seed=1)
    square = poisson_linear_lif(images.view(3, 1, 9, 10), weight, 20, LIFParameters(), seed=1)
    assert torch.equal(flat, square)
    assert poisson_linear_lif(images[:0], weight, 20, LIFParameters(), seed=1).shape == (0, 10)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"images": torch.full((1, 90), 1.1)}, "images"),
        ({"images": torch.full((1, 90), math.nan)}, "images"),
        ({"weight": torch.zeros(10, 91)}, "weight"),
        ({"weight": torch.zeros(10, 90, dtype=torch.float64)}, "weight"),
        ({"bias": torch.zeros(9)}, "bias"),
        ({"n_steps": 0}, "n_steps"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"first_index": -1}, "first_index"),
    ],
)
def test_bad_values_are_refused_by_name(change, name):
    good = {"images": torch.zeros(1, 90), "weight": torch.zeros(10, 90), "n_steps": 5}
    with pytest.raises(ValueError, match=name):
        poisson_linear_lif(neuron=LIFParameters(), **(good | {"seed": 0} | change))


def test_a_first_compilation_is_announced_once(caplog, monkeypatch):
    uncompiled = types.SimpleNamespace(forward=types.SimpleNamespace(signatures=[]))
    monkeypatch.setattr(events, "event_kernels", uncompiled)
    for kept_on_disk in (False, True):
        monkeypatch.setattr(events, "_is_compiled", lambda kernel, kept=kept_on_disk: kept)
        events._say_so_once.cache_clear()
        with caplog.at_level(logging.INFO, logger="snnlib.fast.events"):
            events._say_so_once()
            events._say_so_once()
        assert len(caplog.records) == 1  # the first time only; then the kernel is there


def test_a_kernel_counts_as_compiled_once_numba_has_kept_it_and_its_source_is_older(tmp_path):
    source = tmp_path / "ours.py"
    source.write_text(
        "from snnlib.fast.kernels.lanes import kernel\n@kernel\ndef one(x):\n    return x + 1\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ours; "
        "from snnlib.fast.events import _is_compiled; before = _is_compiled(ours.one); "
        "ours.one(1); print(before, _is_compiled(ours.one))"
    )
    told = []
    for shift in (0, 0, 3600):
        os.utime(source, (source.stat().st_mtime + shift,) * 2)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        told.append(done.stdout.split())
    assert told == [["False", "True"], ["True", "True"], ["False", "False"]], done.stderr


def test_without_numba_the_message_says_what_to_do():
    code = "import sys; sys.modules['numba'] = None; import snnlib.fast.kernels.lanes"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: The fast kernels of snnlib need numba" in done.stderr


def test_kernels_compile_where_no_folder_can_be_written():
    # Home, cache and source folders all out of reach: compile, but do not keep.
    code = (
        "import numba.core.caching as c; c._CacheLocator.ensure_cache_path = "
        "lambda self: (_ for _ in ()).throw(OSError('read-only')); "
        "from snnlib.fast.kernels.lanes import kernel; print(kernel(lambda x: x + 1)(1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2", done.stderr


def test_weights_that_are_not_finite_are_refused_where_no_gradient_is_asked_for():
    grey, weight = torch.rand(2, 9), torch.full((3, 9), float("nan"))
    with pytest.raises(ValueError, match="weight must be finite numbers, got NaN"):
        poisson_linear_lif(grey, weight, 4, LIFParameters(), seed=1)
    with pytest.raises(ValueError, match="bias must be finite numbers, got NaN"):
        poisson_linear_lif(
            grey, torch.rand(3, 9), 4, LIFParameters(), seed=1, bias=torch.full((3,), float("nan"))
        )


def test_the_number_of_an_image_fits_into_the_generator():
    with pytest.raises(ValueError, match=r"first_index must be a whole number in 0\.\."):
        poisson_spikes(torch.rand(2, 9), 4, seed=1, first_index=2**63)
