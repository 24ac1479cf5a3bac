import math

import pytest
import torch
from spikingjelly.activation_based import encoding

from snnlib.encoding import constant_encode, latency_encode, poisson_encode, rows_encode


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_black_never_fires_and_white_always_does():
    images = torch.tensor([0.0, 1.0])
    spikes = poisson_encode(images, 100_000, generator=seeded(1))
    assert spikes.sum(0).tolist() == [0.0, 100_000.0]


@pytest.mark.parametrize("pixel", [0.02, 0.3, 0.5, 0.97])
def test_rate_is_the_pixel_value_within_five_standard_errors(pixel):
    n_steps = 10_000
    spikes = poisson_encode(torch.full((1, 1), pixel), n_steps, generator=seeded(7))
    standard_error = math.sqrt(pixel * (1 - pixel) / n_steps)
    assert abs(spikes.mean().item() - pixel) < 5 * standard_error


def test_steps_are_independent_of_each_other():
    # The lag-1 correlation of independent draws has standard error 1/sqrt(T).
    n_steps = 40_000
    spikes = poisson_encode(torch.tensor([0.4]), n_steps, generator=seeded(9)).squeeze()
    now, next_ = spikes[:-1], spikes[1:]
    correlation = torch.corrcoef(torch.stack([now, next_]))[0, 1].item()
    assert abs(correlation) < 5 / math.sqrt(n_steps)


def test_time_comes_first_and_the_same_seed_gives_the_same_spikes():
    images = torch.rand(3, 1, 28, 28, generator=seeded(2))
    first = poisson_encode(images, 5, generator=seeded(3))
    assert first.shape == (5, 3, 1, 28, 28)
    assert torch.equal(first, poisson_encode(images, 5, generator=seeded(3)))
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_normalised_images_are_refused_with_the_range_found():
    normalised = (torch.tensor([0.0, 1.0]) - 0.1307) / 0.3081
    with pytest.raises(
        ValueError, match=r"images must be grey values in \[0, 1\].*-0.4242 to 2.821.*normalisation"
    ):
        poisson_encode(normalised, 5)
    with pytest.raises(ValueError, match="images must be finite numbers, got NaN"):
        poisson_encode(torch.tensor([math.nan]), 5)
    with pytest.raises(ValueError, match="images must be floating point"):
        poisson_encode(torch.tensor([0, 255], dtype=torch.uint8), 5)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        poisson_encode(torch.tensor([0.5]), 0)


def test_constant_encoding_repeats_the_image_without_copying_it():
    images = torch.randn(2, 1, 28, 28, generator=seeded(4))
    sequence = constant_encode(images, 6)
    assert sequence.shape == (6, 2, 1, 28, 28)
    assert all(torch.equal(step, images) for step in sequence)
    assert sequence.data_ptr() == images.data_ptr()
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got -2"):
        constant_encode(images, -2)


def test_numpy_is_welcome_and_nan_and_half_a_step_are_named():
    images = torch.rand(2, 3)
    with pytest.raises(
        ValueError, match=r"images must be finite numbers, got NaN \(6 of 6 values\)"
    ):
        poisson_encode(torch.full((2, 3), torch.nan), 4)
    spikes = poisson_encode(images.numpy(), 4, generator=seeded(1))
    assert torch.equal(spikes, poisson_encode(images, 4, generator=seeded(1)))
    with pytest.raises(ValueError, match=r"n_steps must be a whole number of at least 1, got 1\.5"):
        poisson_encode(images, 1.5)


def test_brighter_pixels_fire_earlier_once_and_black_ones_never():
    images = torch.tensor([[1.0, 0.75, 0.5], [0.25, 1 / 255, 0.0]])
    spikes = latency_encode(images, 5)
    expected = torch.zeros(5, 2, 3)
    for step, place in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        expected[step][place] = 1  # (1 - x) * 4 is the step; 3.98 is rounded
    assert torch.equal(spikes, expected)


@pytest.mark.parametrize("n_steps", [1, 2, 10, 255])
def test_the_step_of_the_spike_is_the_darkness_scaled_and_rounded(n_steps):
    grey = torch.arange(256)[None] / 255
    spikes = latency_encode(grey, n_steps)
    assert spikes.shape == (n_steps, 1, 256)
    assert torch.equal(spikes.sum(0), (grey > 0).float())
    # In whole numbers: (255 - g) (T - 1) / 255; halves would need an even 255.
    dark = (255 - torch.arange(1, 256)) * (n_steps - 1)
    assert torch.equal(spikes.argmax(0)[0, 1:], (2 * dark + 255) // 510)


def test_spikingjellys_latency_encoder_differs_in_black_pixels_only():
    encoder = encoding.LatencyEncoder(12, step_mode="s")
    grey = torch.rand(2, 1, 9, 9, generator=seeded(6))
    grey[0, 0, :3] = 0.0
    theirs = torch.stack([encoder(grey) for _ in range(12)])
    ours = latency_encode(grey, 12)
    assert torch.equal(ours[:-1], theirs[:-1])
    assert torch.equal(theirs[-1] - ours[-1], (grey == 0).float())


def test_latency_takes_half_precision_and_numpy_and_refuses_what_is_not_grey():
    grey = torch.arange(257.0) / 256  # exact in half precision
    assert torch.equal(latency_encode(grey.half(), 100).float(), latency_encode(grey, 100))
    assert torch.equal(latency_encode(grey.numpy(), 100), latency_encode(grey, 100))
    assert latency_encode(grey.half(), 3).dtype == torch.float16
    with pytest.raises(ValueError, match=r"images must be grey values in \[0, 1\]"):
        latency_encode(grey * 2, 3)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        latency_encode(grey, 0)


def test_step_t_of_the_rows_is_row_t_of_every_image():
    images = torch.arange(2 * 3 * 4).reshape(2, 1, 3, 4) / 8 - 1  # any range
    rows = rows_encode(images)
    assert rows.shape == (3, 2, 4)
    for t in range(3):
        for n in range(2):
            assert torch.equal(rows[t, n], images[n, 0, t])


def test_rows_put_together_again_are_the_image():
    images = torch.rand(5, 1, 28, 28, generator=seeded(4))
    assert torch.equal(torch.stack(list(rows_encode(images)), dim=1)[:, None], images)


@pytest.mark.parametrize("shape", [(28, 28), (5, 28, 28), (5, 3, 28, 28), (9, 5, 1, 28, 28)])
def test_rows_of_something_else_than_grey_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"^images must be \[N, 1, H, W\], got"):
        rows_encode(torch.zeros(shape))
