import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from snnlib import plotting
from snnlib.neurons import LIFParameters, simulate

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_raster_marks_every_spike_at_its_step_and_neuron():
    spikes = torch.zeros(4, 3)
    spikes[0, 2] = spikes[3, 1] = 1
    (marks,) = plotting.plot_raster(spikes).lines
    assert sorted(zip(marks.get_xdata().tolist(), marks.get_ydata().tolist(), strict=True)) == [
        (1, 2),
        (4, 1),
    ]


def test_potential_shows_the_peaks_and_one_triangle_per_spike():
    trace = simulate(torch.full((6,), 1.5), LIFParameters())
    ax = plotting.plot_potential(trace.charged, trace.spikes, 1.0)
    potential, _threshold, triangles = ax.lines
    assert max(potential.get_ydata()) == 1.125
    assert triangles.get_xdata().tolist() == [2, 4, 6]


def test_confusion_counts_every_image_once():
    labels, predictions = torch.tensor([1, 1, 2]), torch.tensor([1, 7, 2])
    texts = {
        t.get_position(): t.get_text() for t in plotting.plot_confusion(labels, predictions).texts
    }
    assert texts == {(1, 1): "1", (7, 1): "1", (2, 2): "1"}


def test_curves_start_at_epoch_one_and_differ_in_style():
    lines = plotting.plot_curves({"a": [1.0, 2.0], "b": [3.0, 4.0, 5.0]}).lines
    assert [list(line.get_xdata()) for line in lines] == [[1, 2], [1, 2, 3]]
    assert lines[0].get_linestyle() != lines[1].get_linestyle()


def test_images_and_rates_fill_their_axes():
    grid = plotting.plot_images(torch.rand(5, 1, 28, 28), [str(i) for i in range(5)], columns=3)
    assert grid.shape == (2, 3)
    assert [cell.get_title() for cell in grid.flat] == ["0", "1", "2", "3", "4", ""]
    ax = plotting.plot_rates(torch.linspace(0, 0.9, 10), label=4)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.1 * i for i in range(10)])
    edges = [bar.get_linewidth() for bar in ax.patches]
    weights = [text.get_fontweight() for text in ax.get_xticklabels()]
    assert edges.index(max(edges)) == weights.index("bold") == 4


# With the oldest matplotlib that pyproject.toml allows, too: make lowest-check.
@pytest.mark.parametrize(
    "draw",
    [
        lambda ax, x, y: ax.plot(x, y, "o-"),
        lambda ax, x, y: ax.plot(x, torch.stack([y, 2 * y], dim=1)),
        lambda ax, x, y: ax.plot([x[0], x[1]], [y[0], y[1]]),
        lambda ax, x, y: ax.loglog(1 + x, 1 + y),
        lambda ax, x, y: ax.step(x, y, where="mid"),
        lambda ax, x, y: ax.scatter(x, y, c=y),
        lambda ax, x, y: ax.bar_label(ax.bar(x, y, bottom=y)),
        lambda ax, x, y: ax.barh(x, y),
        lambda ax, x, y: ax.hist(y, torch.linspace(0, 1, 5)),
        lambda ax, x, y: ax.fill_between(x, y, 2 * y, step="post"),
        lambda ax, x, y: ax.errorbar(x, y, yerr=y),
        lambda ax, x, y: ax.hlines(y, 0, x),
        lambda ax, x, y: ax.vlines(x, 0, y),
        lambda ax, x, y: ax.axhline(y[0]),
        lambda ax, x, y: ax.imshow(y.expand(4, -1), vmin=y.min(), vmax=y.max()),
        lambda ax, x, y: ax.contourf(x, x, y.expand(len(x), -1)),
        lambda ax, x, y: ax.annotate("", (x[0], y[0]), (x[1], y[1]), arrowprops={}),
        lambda ax, x, y: ax.text(x[0], y[0], "here"),
        lambda ax, x, y: ax.set(xticks=x, xlim=(x[0], x[-1])),
        lambda ax, x, y: ax.stem(x.numpy(), y.numpy()),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matplotlib_draws_the_tensors_that_chapters_hand_it(draw, dtype):
    _, ax = plt.subplots()
    draw(ax, torch.arange(5), torch.linspace(0.1, 0.9, 5, dtype=dtype))
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plotting.plot_potential(torch.ones(3, 2), torch.ones(3, 2), 1.0), "charged"),
        (lambda: plotting.plot_raster(torch.ones(3)), r"spikes must be \[T, K\], got \[3\]"),
        (lambda: plotting.plot_images(torch.ones(28, 28)), "images must be"),
        (lambda: plotting.plot_images(torch.ones(2, 4, 4), ["one"]), "titles must be 2"),
        (lambda: plotting.plot_images(torch.ones(2, 4, 4), columns=0), "columns must be"),
        (
            lambda: plotting.plot_confusion(torch.tensor([1]), torch.tensor([-1])),
            r"predictions must lie in 0\.\.9, got -1",
        ),
        (
            lambda: plotting.plot_confusion(torch.tensor([1, 2]), torch.tensor([1])),
            r"predictions must be of shape \[2\], got an int64 tensor of shape \[1\]",
        ),
        (
            lambda: plotting.plot_rates(torch.ones(10), label=-1),
            r"label must be a whole number in 0\.\.9",
        ),
        (
            lambda: plotting.plot_images(torch.zeros(2, 4, 4, dtype=torch.uint8)),
            r"images must be floating point .*divide by 255",
        ),
        (lambda: plotting.plot_curves({"a": ["high", "low"]}), r"curves\['a'\] must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
