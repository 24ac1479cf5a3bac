import math

import pytest
import torch

from snnlib.intervals import accuracy_interval, difference_interval
from snnlib.readout import firing_rate, potential_logits, predict, rate_cross_entropy, rate_mse
from snnlib.records.reproduction import compare_with_claim


def test_rate_is_spikes_per_step():
    spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    assert firing_rate(spikes).tolist() == [[1.0, 0.25]]


def test_mse_by_hand():
    rate = torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    # Image 0 misses its target (1, 0) by 0.5 in one of four entries.
    assert rate_mse(rate, torch.tensor([0, 1])).item() == 0.25 / 4


def test_silent_and_perfect_outputs_have_the_losses_they_should():
    labels = torch.tensor([3, 7])
    silent = torch.zeros(2, 10)
    perfect = torch.eye(10)[labels]
    assert rate_mse(silent, labels).item() == pytest.approx(0.1)
    assert rate_mse(perfect, labels).item() == 0.0
    # With equal logits every class has probability 1/10.
    assert rate_cross_entropy(silent, labels).item() == pytest.approx(math.log(10))
    expected = math.log(1 + 9 * math.exp(-10))
    assert rate_cross_entropy(perfect, labels).item() == pytest.approx(expected, rel=1e-3)


def test_potentials_are_read_as_their_mean_their_last_or_their_largest():
    v = torch.tensor([[[1.0, -3.0]], [[5.0, -1.0]], [[0.0, -2.0]]])
    assert potential_logits(v).tolist() == [[2.0, -2.0]]
    assert potential_logits(v, "last").tolist() == [[0.0, -2.0]]
    assert potential_logits(v, "max").tolist() == [[5.0, -1.0]]
    with pytest.raises(ValueError, match=r"^over_time must be one of mean, last, max, got 'sum'"):
        potential_logits(v, "sum")
    for wrong in (v[0], v[:0]):
        with pytest.raises(ValueError, match=r"^v must be \[T, N, K\], time first"):
            potential_logits(wrong)


def test_ties_go_to_the_lowest_class_number():
    assert predict(torch.tensor([[0.0, 0.0], [0.2, 0.2], [0.1, 0.3]])).tolist() == [0, 0, 1]


def test_wilson_interval_of_a_textbook_case():
    # Solve (p - share)^2 = z^2 p (1 - p) / n directly and compare.
    n_correct, n_images, z = 61, 100, 1.959963984540054
    share = n_correct / n_images
    a = 1 + z * z / n_images
    b = -(2 * share + z * z / n_images)
    c = share * share
    root = math.sqrt(b * b - 4 * a * c)
    low, high = accuracy_interval(n_correct, n_images)
    assert low == pytest.approx((-b - root) / (2 * a))
    assert high == pytest.approx((-b + root) / (2 * a))


def test_interval_covers_the_truth_as_often_as_it_promises():
    # Exact coverage at p = 0.9, n = 200, by summing the binomial law.
    n, p = 200, 0.9
    covered = 0.0
    for k in range(n + 1):
        low, high = accuracy_interval(k, n)
        if low <= p <= high:
            covered += math.comb(n, k) * p**k * (1 - p) ** (n - k)
    assert 0.93 < covered < 0.97


def test_interval_reaches_exactly_zero_and_one():
    assert accuracy_interval(0, 64)[0] == 0.0
    assert accuracy_interval(64, 64)[1] == 1.0


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match=r"n_correct must be a whole number in 0\.\.64, got 65"):
        accuracy_interval(65, 64)
    with pytest.raises(ValueError, match=r"n_correct must be a whole number in 0\.\.5, got 1\.5"):
        accuracy_interval(1.5, 5)
    with pytest.raises(ValueError, match="n_images must be a whole number of at least 1, got 0"):
        accuracy_interval(0, 0)
    with pytest.raises(ValueError, match="gain must be a finite number greater than 0, got 0"):
        rate_cross_entropy(torch.zeros(1, 10), torch.tensor([0]), gain=0)


def test_difference_interval_is_the_published_example():
    # Newcombe 1998, Table II, (a) by method 10: 56/70 against 48/80.
    low, high = difference_interval(56 / 70, 70, 48 / 80, 80)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_difference_interval_is_odd_and_holds_zero_for_equal_shares():
    low, high = difference_interval(0.9, 1000, 0.8, 50)
    assert difference_interval(0.8, 50, 0.9, 1000) == pytest.approx((-high, -low))
    low, high = difference_interval(0.5, 10, 0.5, 10_000)
    assert low < 0 < high


def test_difference_interval_refuses_a_share_above_one():
    with pytest.raises(ValueError, match=r"share must be a finite number in \[0, 1\], got 1.1"):
        difference_interval(1.1, 10, 0.5, 10)


def test_a_claim_is_repeated_surpassed_or_not_reached():
    answers = [compare_with_claim(share, 10_000, 0.9289, 10_000) for share in (0.92, 0.93, 0.94)]
    assert answers == ["not reached", "repeated", "surpassed"]
    assert compare_with_claim(0.4, 10_000, 0.61, 64) == "not reached"
    assert compare_with_claim(0.55, 10_000, 0.61, 64) == "repeated"  # 64 images tell little


RATE = torch.full((4, 10), 0.1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            torch.zeros(1).long(),
            r"labels must be of shape \[4\], got an int64 tensor of shape \[1\]",
        ),
        (torch.zeros(4), r"labels must be whole numbers, one class each, got a float32 tensor"),
        (torch.tensor([0, 1, 2, 10]), r"labels must lie in 0\.\.9, got 0 to 10"),
        (torch.tensor([0, 1, 2, -1]), r"labels must lie in 0\.\.9, got -1 to 2"),
    ],
)
@pytest.mark.parametrize("loss", [rate_mse, rate_cross_entropy])
def test_labels_that_do_not_fit_the_rates_are_refused(loss, labels, told):
    with pytest.raises(ValueError, match=told):
        loss(RATE, labels)


def test_spikes_may_be_booleans_or_whole_numbers():
    spikes = torch.tensor([[[True, False]], [[True, True]]])
    for given in (spikes, spikes.long(), spikes.numpy()):
        assert firing_rate(given).tolist() == [[1.0, 0.5]]


def test_spikes_are_not_taken_for_rates():
    with pytest.raises(ValueError, match=r"rate must be \[N, K\], spikes per step, got"):
        predict(torch.zeros(5, 4, 10))
    with pytest.raises(ValueError, match="at least one step"):
        firing_rate(torch.zeros(0, 4, 10))


@pytest.mark.parametrize(("share", "other", "named"), [(1.2, 0.5, "share"), (0.5, -0.1, "other")])
def test_a_difference_of_impossible_accuracies_is_refused(share, other, named):
    with pytest.raises(ValueError, match=rf"{named} must be a finite number in \[0, 1\]"):
        difference_interval(share, 100, other, 100)
