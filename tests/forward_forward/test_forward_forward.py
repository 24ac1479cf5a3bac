"""Forward-Forward: labels in pixels, goodness, and layers that learn from nobody but themselves."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from snnlib.fast.constant import constant_rate
from snnlib.fast.scan import neuron_scan
from snnlib.forward_forward.goodness import (
    every_label_loss,
    forward_forward_loss,
    goodness,
    normalise_length,
)
from snnlib.forward_forward.judging import (
    classify_by_goodness,
    classify_by_rate,
    every_label_rate,
    first_layer_goodness,
    label_goodness,
)
from snnlib.forward_forward.labels import (
    draw_likely_wrong_labels,
    draw_wrong_labels,
    overlay_labels,
    overlay_neutral,
    with_every_label,
)
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, train_layers
from snnlib.memory import activation_memory
from snnlib.neurons import LIFParameters
from snnlib.posts.fourth import PostNetwork, overlay_labels_in_column, post_loss


def random_images(n: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def network(*widths: int, n_steps: int = 4, pass_on: str = "rate", fast: bool = True):
    neuron = LIFParameters()
    torch.manual_seed(5)
    layers = [
        ForwardForwardLayer(
            a,
            b,
            n_steps,
            lambda currents: neuron_scan(currents, neuron),
            (lambda current: constant_rate(current, n_steps, neuron)) if fast else None,
        )
        for a, b in pairwise(widths)
    ]
    return ForwardForwardNetwork(layers, pass_on)


# --- labels in pixels


def test_overlay_writes_exactly_one_of_the_ten_label_pixels_and_touches_nothing_else():
    images, labels = random_images(30), torch.arange(30) % 10

    marked = overlay_labels(images, labels)

    code = marked[:, 0, 0, :10]
    assert torch.equal(code.argmax(dim=1), labels)
    assert torch.equal(code.sum(dim=1), torch.ones(30))
    assert ((code == 0) | (code == 1)).all()
    marked[:, 0, 0, :10] = images[:, 0, 0, :10]
    assert torch.equal(marked, images)


def test_overlay_leaves_the_given_images_alone():
    images = random_images(3)
    before = images.clone()
    overlay_labels(images, torch.tensor([1, 2, 3]))
    overlay_neutral(images)
    assert torch.equal(images, before)


def test_neutral_overlay_names_every_label_equally():
    assert torch.equal(overlay_neutral(random_images(2))[:, 0, 0, :10], torch.full((2, 10), 0.1))


def test_overlay_refuses_impossible_labels():
    with pytest.raises(ValueError, match="labels must lie in"):
        overlay_labels(random_images(1), torch.tensor([10]))
    with pytest.raises(ValueError, match="labels must be"):
        overlay_labels(random_images(2), torch.tensor([1]))


def test_the_posts_overlay_clears_the_row_but_writes_down_the_column():
    marked = overlay_labels_in_column(torch.zeros(1, 1, 28, 28) + 0.25, torch.tensor([7]))
    assert marked[0, 0, 0, :10].sum() == 0
    assert marked[0, 0, 7, 0] == 0.25  # the largest value of the batch, not 1


# --- wrong labels


def test_wrong_labels_are_never_right_and_all_wrong_ones_equally_likely():
    labels = torch.arange(10).repeat_interleave(9000)

    wrong = draw_wrong_labels(labels, torch.Generator().manual_seed(2))

    assert not (wrong == labels).any()
    counts = torch.bincount(labels * 10 + wrong, minlength=100).view(10, 10)
    off_diagonal = counts[~torch.eye(10, dtype=torch.bool)].double()
    standard_error = math.sqrt(9000 * (1 / 9) * (8 / 9))
    assert ((off_diagonal - 1000).abs() < 5 * standard_error).all()


def test_likely_wrong_labels_are_never_right_and_follow_the_scores():
    labels = torch.zeros(20_000, dtype=torch.int64)
    scores = torch.full((20_000, 10), -50.0)
    scores[:, 0], scores[:, 3], scores[:, 4] = 99.0, math.log(3.0), 0.0

    wrong = draw_likely_wrong_labels(scores, labels, torch.Generator().manual_seed(3))

    assert set(wrong.tolist()) == {3, 4}
    standard_error = math.sqrt(0.75 * 0.25 / 20_000)
    assert abs((wrong == 3).float().mean() - 0.75) < 5 * standard_error


def test_two_classes_at_least():
    with pytest.raises(ValueError, match="n_classes"):
        draw_wrong_labels(torch.zeros(1, dtype=torch.int64), torch.Generator(), n_classes=1)


# --- goodness and loss


def test_both_kinds_of_goodness_agree_on_single_spikes_and_differ_on_rates():
    spikes = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    assert goodness(spikes).item() == goodness(spikes, "mean").item() == 0.75
    rates = torch.tensor([[0.5, 0.5, 0.0, 1.0]])
    assert goodness(rates).item() == (0.25 + 0.25 + 1.0) / 4
    assert goodness(rates, "mean").item() == 0.5


def test_goodness_refuses_unknown_kinds():
    with pytest.raises(ValueError, match="kind"):
        goodness(torch.zeros(1, 1), "sum")


def test_silent_layer_learns_nothing_from_squared_rates_but_something_from_rates():
    def gradient(kind: str) -> float:
        current = torch.full((1, 5), 0.5, requires_grad=True)  # below threshold for ever
        goodness(constant_rate(current, 8, LIFParameters()), kind).sum().backward()
        return current.grad.abs().sum().item()

    assert gradient("mean_square") == 0.0
    assert gradient("mean") > 0.01


def slope_at_zero(loss) -> float:
    z = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(z).backward()
    return z.grad.item()


def test_the_loss_has_slope_one_half_where_it_cannot_decide():
    # One image at goodness theta: softplus'(0) = 1/2, whatever the scale.
    for scale in (1.0, 6.0, 20.0):
        pulled = slope_at_zero(
            lambda z, s=scale: (
                2 * forward_forward_loss(0.35 - z[None], torch.zeros(1) + 0.35, 0.35, slope=s)
            )
        )
        assert pulled == pytest.approx(0.5, abs=1e-12)


def test_the_posts_loss_has_slope_one_third_and_never_falls_below_log_two():
    loss = partial(post_loss, theta=0.0)
    slope = slope_at_zero(lambda z: 2 * loss(-z[None], torch.zeros(1)))
    assert slope == pytest.approx(1 / 3, abs=1e-12)
    best = loss(torch.tensor([60.0]), torch.tensor([-60.0]))
    assert best.item() == pytest.approx(math.log(2), abs=1e-6)
    assert forward_forward_loss(torch.tensor([60.0]), torch.tensor([-60.0]), 0.0).item() < 1e-6


def test_the_posts_written_loss_forgets_theta():
    g_pos, g_neg = torch.tensor([0.3]), torch.tensor([0.2])
    values = {post_loss(g_pos, g_neg, "linear", theta).item() for theta in (0.0, 0.25, 0.5)}
    assert max(values) - min(values) < 1e-7
    assert 2 * max(values) == pytest.approx(-0.1, abs=1e-6)  # log(exp(z)) is z


def test_symmetric_loss_sees_the_difference_only():
    g_pos, g_neg = torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.4])
    expected = sum(math.log1p(math.exp(-6 * d)) / 6 for d in (0.8, -0.2)) / 2
    assert forward_forward_loss(g_pos, g_neg, slope=6.0).item() == pytest.approx(expected, abs=1e-6)
    moved = forward_forward_loss(g_pos + 3, g_neg + 3, slope=6.0).item()
    assert moved == pytest.approx(expected, abs=1e-6)


def test_with_two_labels_the_loss_over_every_label_is_the_symmetric_one():
    g = torch.tensor([[0.9, 0.1], [0.4, 0.2], [1.0, 3.0]])
    labels = torch.tensor([0, 1, 1])
    pair = forward_forward_loss(g[range(3), labels], g[range(3), 1 - labels], slope=6.0)
    torch.testing.assert_close(every_label_loss(g, labels, slope=6.0), pair)


def test_every_wrong_label_pulls_by_its_softmax():
    generator = torch.Generator().manual_seed(1)
    g = torch.randn(8, 10, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(10, (8,), generator=generator)
    every_label_loss(g, labels, slope=3.0).backward()
    wanted = (3.0 * g.detach()).softmax(dim=1)
    wanted[range(8), labels] -= 1
    torch.testing.assert_close(g.grad, wanted / 8)


def test_the_loss_over_every_label_refuses_a_bad_shape_or_scale():
    g = torch.zeros(2, 10)
    with pytest.raises(ValueError, match=r"labels must be of shape \[2\], got .* \[3\]"):
        every_label_loss(g, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="slope must be a finite number greater than 0, got 0"):
        every_label_loss(g, torch.zeros(2, dtype=torch.int64), slope=0)


# --- layers


def test_normalised_inputs_keep_direction_and_forget_length():
    vector = torch.rand(4, 50) + 0.1
    normal = normalise_length(vector)
    torch.testing.assert_close(normal, normalise_length(7 * vector))
    torch.testing.assert_close(normal.square().mean(dim=1).sqrt(), torch.full((4,), 2.0))
    assert normalise_length(torch.zeros(1, 5)).abs().sum() == 0


def test_a_spike_train_is_normalised_by_its_rate_at_every_step_alike():
    train = (torch.rand(6, 3, 40) < 0.4).float()
    scaled = normalise_length(train)
    torch.testing.assert_close(scaled.mean(dim=0), normalise_length(train.mean(dim=0)))


def test_the_fast_way_to_the_rate_changes_neither_rates_nor_gradients():
    images = overlay_labels(random_images(8), torch.arange(8))
    slow, fast = network(784, 20, fast=False), network(784, 20, fast=True)
    for net in (slow, fast):
        goodness(net(images)[0]).sum().backward()
    assert torch.equal(slow(images)[0], fast(images)[0])
    torch.testing.assert_close(slow.layers[0].linear.weight.grad, fast.layers[0].linear.weight.grad)


@pytest.mark.parametrize("pass_on", ["rate", "spikes"])
def test_no_gradient_crosses_a_layer_boundary(pass_on):
    net = network(784, 30, 30, 30, pass_on=pass_on)
    rates = net(overlay_labels(random_images(10), torch.arange(10)))
    for judged, rate in enumerate(rates):
        net.zero_grad()
        goodness(rate).sum().backward(retain_graph=True)
        for number, layer in enumerate(net.layers):
            gradient = layer.linear.weight.grad
            touched = gradient is not None and gradient.abs().sum().item() > 0
            assert touched == (number == judged)


def remembered_at_once(depth: int) -> int:
    """Most numbers that autograd keeps for the backward pass at one time, while training."""
    net = network(*[784, *[32] * depth], fast=False)
    pair = (random_images(4), random_images(4, seed=2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with activation_memory() as counts:
        train_layers(net, [pair], lambda a, b: forward_forward_loss(a, b), optimizer)
    return counts.most


def test_memory_for_the_backward_pass_does_not_grow_with_depth():
    assert remembered_at_once(8) == remembered_at_once(2) > 0


def test_training_one_layer_leaves_the_others_as_they_were():
    net = network(784, 20, 20, 20)
    before = [layer.linear.weight.clone() for layer in net.layers]
    pairs = [(overlay_labels(random_images(6), torch.arange(6)), random_images(6, seed=4))]
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)

    losses = train_layers(net, pairs, lambda a, b: forward_forward_loss(a, b), optimizer, only=1)

    moved = [
        not torch.equal(layer.linear.weight, w) for layer, w in zip(net.layers, before, strict=True)
    ]
    assert moved == [False, True, False]
    assert len(losses) == 1


def test_layers_trained_at_once_take_the_same_steps_as_each_alone_on_fixed_inputs():
    # The first layer cannot notice whether others learn beside it.
    pairs = [(overlay_labels(random_images(6), torch.arange(6)), random_images(6, seed=4))] * 3
    weights = []
    for only in (None, 0):
        net = network(784, 20, 20)
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        train_layers(net, pairs, lambda a, b: forward_forward_loss(a, b), optimizer, only=only)
        weights.append(net.layers[0].linear.weight)
    assert torch.equal(*weights)


def test_training_needs_pairs():
    net = network(784, 5)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="pairs"):
        train_layers(net, [], lambda a, b: forward_forward_loss(a, b), optimizer)


# --- classification


def test_one_product_gives_the_first_layers_goodness_with_all_ten_labels():
    net, images = network(784, 60), random_images(7)
    quick = first_layer_goodness(net.layers[0], images)
    torch.testing.assert_close(quick, label_goodness(net, images)[0], rtol=0, atol=2 / (60 * 4))
    assert quick.std() > 0


def test_one_product_gives_the_first_layers_rates_and_gradient_with_all_ten_labels():
    net, images = network(784, 60).double(), random_images(7).double()
    layer, weight = net.layers[0], net.layers[0].linear.weight
    found = []
    for rate in (every_label_rate(layer, images), layer.rate(with_every_label(images))):
        found.append((rate, *torch.autograd.grad(rate.square().sum(), weight)))
    torch.testing.assert_close(*found)
    assert found[0][0].std() > 0
    assert found[0][1].abs().sum() > 0


class Oracle(torch.nn.Module):
    """A layer that is busy exactly when the label pixel names the class in the last pixel."""

    def rate(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.flatten(1)
        named, true = flat[:, :10].argmax(dim=1), (flat[:, -1] * 10).round().long()
        rate = torch.zeros(len(flat), 10)
        rate[:, 0] = (named == true).float()
        rate[torch.arange(len(flat)), true] += 0.5
        return rate


def test_goodness_finds_the_label_and_rate_finds_the_busiest_neuron():
    images = torch.zeros(10, 1, 28, 28)
    images[:, 0, -1, -1] = torch.arange(10) / 10
    oracle = ForwardForwardNetwork([Oracle()])

    assert torch.equal(classify_by_goodness(oracle, images), torch.arange(10))
    assert label_goodness(oracle, images).shape == (1, 10, 10)
    # Summed over all ten labels: 0.5 ten times for the class, once 1 for neuron 0.
    assert torch.equal(classify_by_rate(oracle, images), torch.arange(10))


def test_a_small_network_learns_to_tell_two_patterns():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    images = 0.2 * torch.rand(200, 1, 28, 28, generator=generator)
    images[labels == 0, :, 5:10] += 0.6
    images[labels == 1, :, 15:20] += 0.6
    net = network(784, 40, n_steps=6)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    pairs = [
        (overlay_labels(images, labels, 2), overlay_labels(images, 1 - labels, 2))
        for _ in range(30)
    ]

    train_layers(
        net, pairs, lambda a, b: forward_forward_loss(20 * a, 20 * b, slope=6.0), optimizer
    )

    right = (classify_by_goodness(net, images, n_classes=2) == labels).float().mean()
    assert right > 0.95


# --- the post's shared membrane


def test_taking_turns_on_one_membrane_makes_the_negative_fire_on_the_positives_charge():
    # Input 0.9 at every step, tau 2, threshold 0.5, as the audit measured: H = 0.45, then 0.675.
    neuron, rates = LIFParameters(v_threshold=0.5), []
    for shared in (False, True):
        net = PostNetwork((1, 1), n_steps=50, neuron=neuron, pixel_norm=False, shared_state=shared)
        with torch.no_grad():
            net.layers[0].weight.fill_(0.45)  # times the normalised length 2 makes 0.9
            one = torch.ones(1, 1)
            pair = net.pair_of_rates(0, one, one, torch.Generator().manual_seed(0))
        rates.append([rate.item() for rate in pair])
    assert rates[0] == [0.5, 0.5]
    assert rates[1] == [0.0, 1.0]


def test_shapes_that_torch_would_stretch_are_refused():
    with pytest.raises(ValueError, match=r"g_neg must be \[5\] as g_pos, got \[1\]"):
        forward_forward_loss(torch.ones(5), torch.ones(1))
    with pytest.raises(ValueError, match="slope must be a finite number greater than 0, got 0"):
        forward_forward_loss(torch.ones(5), torch.ones(5), slope=0)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"labels must be of shape \[5\], got .* \[1\]"):
        draw_likely_wrong_labels(torch.ones(5, 10), torch.zeros(1, dtype=torch.int64), generator)
    with pytest.raises(ValueError, match=r"images must be \[N, 1, H, W\], got .* \[5, 784\]"):
        overlay_labels(torch.ones(5, 784), torch.zeros(5, dtype=torch.int64))
