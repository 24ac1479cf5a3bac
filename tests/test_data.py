import subprocess
import sys

import numpy as np
import pytest
import torch

from snnlib import data
from snnlib.data import ImageSet, load_mnist, make_loader, split_validation
from snnlib.mnist import originals


@pytest.fixture(scope="module")
def training():
    return load_mnist(train=True)


def small_set(n=10):
    return ImageSet(torch.rand(n, 1, 28, 28), torch.arange(n) % 10, "made up")


def test_all_seventy_thousand_images_are_there(training):
    test = load_mnist(train=False)
    assert training.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    # The class counts of the original files.
    counts = torch.bincount(training.labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (training.images.min(), training.images.max()) == (0.0, 1.0)
    assert "SHA-256 verified" in training.source


def test_a_limit_keeps_the_classes_balanced_and_is_always_the_same(training):
    few = load_mnist(train=True, limit=1005)
    counts = torch.bincount(few.labels)
    assert len(few) == 1005
    assert counts.max() - counts.min() <= 1
    assert torch.equal(few.images, load_mnist(train=True, limit=1005).images)


def test_validation_and_training_images_do_not_overlap(training):
    few = training.subset(torch.arange(500))
    numbered = ImageSet(few.images, torch.arange(500), "numbered")
    rest, validation = split_validation(numbered, 100, torch.Generator().manual_seed(1))
    assert (len(rest), len(validation)) == (400, 100)
    assert sorted(rest.labels.tolist() + validation.labels.tolist()) == list(range(500))


def test_each_pass_shows_every_image_once_in_a_new_order():
    numbered = ImageSet(torch.rand(25, 1, 28, 28), torch.arange(25), "numbered")
    batches = make_loader(numbered, 10, generator=torch.Generator().manual_seed(2))
    first = torch.cat([labels for _, labels in batches])
    second = torch.cat([labels for _, labels in batches])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(25))
    assert first.tolist() != second.tolist()
    images, labels = next(iter(make_loader(numbered, 10)))
    assert labels.tolist() == list(range(10))
    assert torch.equal(images, numbered.images[:10])


def test_the_number_of_batches_is_known_beforehand():
    # 937 batches of 64 in 60,000 when the last is dropped, 157 in 10,000 when not.
    for n, size, drop, expected in [(60_000, 64, True, 937), (10_000, 64, False, 157)]:
        blank = torch.zeros(1, 1, 28, 28).expand(n, -1, -1, -1)
        images = ImageSet(blank, torch.zeros(n, dtype=torch.long), "blank")
        batches = make_loader(images, size, drop_last=drop)
        assert len(batches) == expected
        assert sum(1 for _ in batches) == expected


def test_a_damaged_cache_is_noticed_and_rebuilt(tmp_path):
    name = "t10k-labels-idx1-ubyte"
    path = tmp_path / name
    originals._ensure_unpacked(path)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"\x07")
    originals._ensure_unpacked(path)
    assert path.read_bytes() == good
    path.write_bytes(good[:100])  # half-written
    originals._ensure_unpacked(path)
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == [name]  # no temporary file left


def test_damaged_packaged_data_ask_for_a_new_installation(tmp_path, monkeypatch):
    class Damaged:
        def joinpath(self, *names):
            return self

        def read_bytes(self):
            return b"no xz file"

    monkeypatch.setattr(originals.resources, "files", lambda package: Damaged())
    with pytest.raises(OSError, match=r"ubyte.xz is damaged; reinstall snnlib"):
        originals._ensure_unpacked(tmp_path / next(iter(originals.SHA256)))


def test_two_processes_may_unpack_at_once(tmp_path):
    code = (
        "from snnlib.data import load_mnist; import sys;"
        "print(load_mnist(train=False, root=sys.argv[1]).labels[:5].tolist())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [run.communicate()[0].strip() for run in runs] == ["[7, 2, 1, 0, 4]"] * 2


def test_bad_requests_are_refused_by_name(training, tmp_path):
    with pytest.raises(ValueError, match=r"limit must be a whole number in 1..10000, got 10001"):
        load_mnist(train=False, limit=10_001)
    with pytest.raises(ValueError, match=r"n must be a whole number in 1\.\.9, got 10"):
        split_validation(small_set(), 10, torch.Generator())
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        make_loader(small_set(), 0)
    with pytest.raises(ValueError, match="equally many, got 3 and 2"):
        ImageSet(torch.zeros(3, 1, 28, 28), torch.zeros(2).long(), "uneven")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="root must be a folder that can be written"):
        load_mnist(train=True, root=tmp_path / "file")


def test_arrays_of_numpy_and_other_exact_types_make_the_same_set():
    images = (torch.arange(2 * 784) % 256 / 256).reshape(2, 1, 28, 28)
    expected = ImageSet(images, torch.tensor([3, 4]), "made up")
    for kind, whole in ((np.float64, np.uint8), (np.float32, np.int16)):
        made = ImageSet(images.numpy().astype(kind), np.array([3, 4], whole), "made up")
        assert torch.equal(made.images, expected.images)
        assert torch.equal(made.labels, expected.labels)
        assert (made.images.dtype, made.labels.dtype) == (torch.float32, torch.int64)


BLANK = torch.zeros(2, 1, 28, 28)
TWO = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "source", "message"),
    [
        (BLANK.byte(), TWO, "x", "images must be floating point .*divide by 255"),
        (BLANK + 200, TWO, "x", r"images must be grey values .* got 200 to 200; divide by 255"),
        (BLANK - 0.4, TWO, "x", "images must be grey values .*normalisation"),
        (BLANK.double() + 0.1, TWO, "x", r"images must be float32, or exact in it.*\.to\("),
        (BLANK + torch.nan, TWO, "x", "images must be finite numbers, got NaN"),
        (BLANK[:, 0], TWO, "x", r"images must be \[N, 1, 28, 28\].*images\[:, None\]"),
        (BLANK.expand(-1, 3, -1, -1), TWO, "x", "images must be .*make them grey"),
        (torch.zeros(2, 1, 32, 32), TWO, "x", "images must be .*resize"),
        (torch.zeros(2, 3, 32, 32), TWO, "x", "images must be .*make them grey.*and 28 by 28"),
        (torch.zeros(2, 32, 32, 3), TWO, "x", "images must be .*make them grey.*and 28 by 28"),
        (BLANK.tolist(), TWO, "x", "images must be a torch tensor or a NumPy array"),
        (BLANK, TWO.float(), "x", "labels must be whole numbers"),
        (BLANK, TWO == 1, "x", "labels must be whole numbers"),
        (BLANK, [0, 1], "x", "labels must be a torch tensor or a NumPy array"),
        (BLANK, TWO, "", "source must be a text that is not empty, got ''"),
        (BLANK, TWO, None, "source must be a text that is not empty, got None"),
    ],
)
def test_what_is_no_set_of_images_is_refused_before_anything_runs(images, labels, source, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        ImageSet(images, labels, source)


def test_a_subset_takes_whole_numbers_or_a_mask_and_nothing_else():
    images = small_set()
    for chosen in (torch.tensor([7, 2]), np.array([7, 2], np.uint8), [7, 2]):
        assert images.subset(chosen).labels.tolist() == [7, 2]
    assert images.subset(images.labels > 7).labels.tolist() == [8, 9]
    assert len(images.subset([])) == 0
    for wrong in (torch.tensor([1.0]), torch.tensor([10]), torch.tensor([-1]), "1"):
        with pytest.raises(ValueError, match=r"^indices must"):
            images.subset(wrong)


def test_a_subset_of_checked_images_is_not_checked_again(training, monkeypatch):
    def no_look(*_):
        raise AssertionError("the images were looked at")

    monkeypatch.setattr(data, "grey_tensor", no_look)
    part = training.subset(torch.arange(100)).to("cpu")
    assert (len(part), part.source) == (100, training.source)


def test_a_generator_of_numpy_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^generator must be Generator or None, got"):
        make_loader(small_set(), 5, generator=np.random.default_rng(1))


def test_a_set_can_be_indexed_and_given_to_a_data_loader_of_torch():
    images = ImageSet(torch.rand(5, 1, 28, 28), torch.arange(5), "made up")
    assert images[3][1] == 3
    batches = list(torch.utils.data.DataLoader(images, batch_size=2))
    assert torch.equal(torch.cat([x for x, _ in batches]), images.images)
    assert torch.cat([y for _, y in batches]).tolist() == [0, 1, 2, 3, 4]
    assert len(list(images)) == 5


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((28, 28), "images.reshape"),
        ((3, 784), "images.reshape"),
        ((3, 28, 28, 1), "images.reshape"),
        ((3, 28, 28), "images[:, None]"),
        ((3, 3, 28, 28), "images.mean(1, keepdims=True)"),
        ((3, 4, 28, 28), "images[:, :3].mean(1, keepdims=True)"),
        ((3, 28, 28, 3), "images[..., :3].mean(3)[:, None]"),
        ((3, 28, 28, 4), "images[..., :3].mean(3)[:, None]"),
    ],
)
def test_the_cure_for_pictures_of_another_shape_cures_them(shape, cure):
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    with pytest.raises(ValueError, match="images must be") as caught:
        ImageSet(images, np.zeros(1, int), "own")
    assert cure in str(caught.value)
    cured = {
        "images.reshape": lambda: images.reshape(-1, 1, 28, 28),
        "images[:, None]": lambda: images[:, None],
        "images.mean(1, keepdims=True)": lambda: images.mean(1, keepdims=True),
        "images[:, :3].mean(1, keepdims=True)": lambda: images[:, :3].mean(1, keepdims=True),
        "images[..., :3].mean(3)[:, None]": lambda: images[..., :3].mean(3)[:, None],
    }[cure]()
    assert len(ImageSet(cured, np.zeros(len(cured), int), "own")) == len(cured)


def test_a_set_moves_to_a_device_and_never_to_another_type():
    images = small_set()
    assert images.to("cpu").labels.dtype == torch.int64
    with pytest.raises((TypeError, RuntimeError)):
        images.to(torch.float16)
    assert torch.equal(images.subset((0, 2)).labels, images.labels[[0, 2]])
