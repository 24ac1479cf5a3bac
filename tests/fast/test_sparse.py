"""Adding the weights of those that fired is the same as multiplying with spikes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

pytest.importorskip("numba")

from snnlib.fast.sparse import fits, spike_conv2d, spike_linear

# T, N, H, W, C, K, window: fewer steps than a group, just one group, several and a rest.
SHAPES = [
    (1, 2, 4, 4, 16, 64, 3),
    (4, 3, 6, 5, 16, 64, 3),
    (7, 2, 5, 6, 32, 64, 3),
    (8, 1, 3, 3, 16, 128, 1),
    (2, 9, 4, 7, 16, 128, 5),
]


def draw(*shape: int, density: float = 0.4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < density).float()


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense(spikes: Tensor, weight: Tensor) -> Tensor:
    """The ordinary convolution, in float64."""
    maps = spikes.flatten(0, 1).permute(0, 3, 1, 2)
    out = functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)
    return out.permute(0, 2, 3, 1).unflatten(0, spikes.shape[:2])


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("density", [0.05, 0.4, 0.95])
def test_currents_and_gradients_are_those_of_a_convolution(sizes, density):
    n_steps, n_frames, height, width, channels, outputs, window = sizes
    spikes = draw(n_steps, n_frames, height, width, channels, density=density).requires_grad_()
    weight = normal(outputs, channels, window, window).requires_grad_()
    back = normal(n_steps, n_frames, height, width, outputs, seed=2)
    ours = spike_conv2d(spikes, weight)
    exact = [x.detach().double().requires_grad_() for x in (spikes, weight)]
    theirs = dense(*exact)
    assert relative_error(ours.double(), theirs) < 1e-6
    ours_back = torch.autograd.grad(ours, (spikes, weight), back)
    theirs_back = torch.autograd.grad(theirs, exact, back.double())
    for mine, reference in zip(ours_back, theirs_back, strict=True):
        assert mine.shape == reference.shape
        assert relative_error(mine.double(), reference) < 2e-6


def test_a_dense_layer_is_a_convolution_with_a_window_of_one():
    spikes, weight = draw(6, 5, 48).requires_grad_(), normal(128, 48).requires_grad_()
    ours = spike_linear(spikes, weight)
    theirs = spikes.double() @ weight.double().T
    assert relative_error(ours.double(), theirs) < 1e-6
    back = normal(6, 5, 128, seed=2)
    grads = torch.autograd.grad(ours, (spikes, weight), back)
    wanted = torch.autograd.grad(theirs, (spikes, weight), back.double())
    for mine, reference in zip(grads, wanted, strict=True):
        assert relative_error(mine.double(), reference.double()) < 2e-6


def test_silence_gives_nothing_and_full_fire_gives_the_sum_of_all_weights():
    weight = normal(64, 16, 1, 1)
    assert not spike_conv2d(torch.zeros(4, 2, 3, 3, 16), weight).any()
    full = spike_conv2d(torch.ones(4, 2, 3, 3, 16), weight)
    assert torch.allclose(full, weight.sum((1, 2, 3)).expand_as(full), atol=1e-5)


def test_one_spike_prints_its_weights_around_itself_turned_by_half():
    spikes = torch.zeros(2, 1, 5, 5, 16)
    spikes[1, 0, 2, 3, 7] = 1.0
    weight = normal(64, 16, 3, 3)
    currents = spike_conv2d(spikes, weight)
    stamp = weight[:, 7].flip(1, 2).permute(1, 2, 0)
    assert torch.equal(currents[1, 0, 1:4, 2:5], stamp)
    currents[1, 0, 1:4, 2:5] = 0
    assert not currents.any()


@pytest.mark.parametrize("layer", ["convolution", "dense"])
def test_two_threads_change_nothing(layer):
    spikes = draw(4, 40, 4, 4, 16) if layer == "convolution" else draw(4, 40, 160)
    weight = normal(64, 16, 3, 3) if layer == "convolution" else normal(192, 160)
    weight.requires_grad_()
    product = spike_conv2d if layer == "convolution" else spike_linear
    n_threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            out = product(spikes, weight)
            results.append((out, torch.autograd.grad(out.square().sum(), weight)[0]))
    finally:
        torch.set_num_threads(n_threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_weights_that_do_not_fit_are_refused_with_their_shape():
    assert fits(torch.empty(64, 16))
    assert not fits(torch.empty(10, 16))
    assert not fits(torch.empty(64, 10, 3, 3))
    assert not fits(torch.empty(64, 16, 2, 2))
    with pytest.raises(ValueError, match=r"K a multiple of 64.*\(10, 16, 3, 3\)"):
        spike_conv2d(torch.zeros(1, 1, 4, 4, 16), torch.empty(10, 16, 3, 3))
    with pytest.raises(ValueError, match="spikes must be"):
        spike_conv2d(torch.zeros(1, 1, 4, 4, 32), torch.empty(64, 16, 3, 3))
    with pytest.raises(ValueError, match="weight must be float32 on the CPU, got torch"):
        spike_conv2d(torch.zeros(1, 1, 4, 4, 16), torch.empty(64, 16, 3, 3).double())
    with pytest.raises(ValueError, match="spikes must be float32, or exact in it"):
        spike_conv2d(
            torch.full((1, 1, 4, 4, 16), 0.1, dtype=torch.float64), torch.empty(64, 16, 3, 3)
        )
    with pytest.raises(ValueError, match=r"spikes must be \[T, N, C\]"):
        spike_linear(torch.zeros(1, 16), torch.empty(64, 16))


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_spike_is_refused_by_both_and_never_reaches_a_kernel(value):
    spikes = draw(2, 3, 4, 4, 16)
    spikes[0, 0, 0, 0, 0] = value
    weight = normal(64, 16, 3, 3)
    with pytest.raises(ValueError, match="spikes must be 0 or 1, got a float32 tensor"):
        spike_conv2d(spikes, weight)
    with pytest.raises(ValueError, match="spikes must be 0 or 1, got a float32 tensor"):
        spike_linear(spikes[:, :, 0, 0], weight[:, :, 0, 0])


def test_no_image_gives_no_current_and_no_gradient():
    spikes, weight = draw(2, 0, 4, 4, 16), normal(64, 16, 3, 3).requires_grad_()
    currents = spike_conv2d(spikes, weight)
    assert currents.shape == (2, 0, 4, 4, 64)
    currents.sum().backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))
