"""Pictures of the reader: one drawing in many forms gives one image, made like those of MNIST."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from snnlib.data import load_picture
from snnlib.experiments.stored_weights import load_stored, predict_stored
from snnlib.mnist.pictures import like_mnist, otsu, read_grey

STROKES = [(430, 300), (330, 640), (690, 640), (610, 420), (590, 880)]  # a four, of 1200 x 1200


def drawing(size: int = 300, pen: int = 80) -> np.ndarray:
    """How much ink lies on each pixel, 0 to 1: a four in one line, antialiased.

    The pen is so wide as if the drawing had 1200 pixels.
    """
    sheet = Image.new("L", (1200, 1200))
    ImageDraw.Draw(sheet).line(STROKES, fill=255, width=pen, joint="curve")
    return np.asarray(sheet.resize((size, size), Image.Resampling.BOX)) / 255


def coloured(ink: np.ndarray, pen, paper) -> Image.Image:
    mixed = ink[..., None] * np.array(pen) + (1 - ink[..., None]) * np.array(paper)
    return Image.fromarray(mixed.round().astype(np.uint8))


def grey(brightness: np.ndarray) -> Image.Image:
    return Image.fromarray((255 * brightness.clip(0, 1)).round().astype(np.uint8))


def on_glass(ink: np.ndarray, mode: str = "RGBA") -> Image.Image:
    """A black stroke on nothing: white, were it not transparent, and black where there is ink."""
    black = Image.new("L", ink.shape[::-1])
    channels = [black] * 3 if mode == "RGBA" else [black]
    return Image.merge(mode, [*channels, grey(ink)])


def light() -> np.ndarray:
    """Falls from 0.95 at the upper left to 0.45 at the lower right."""
    y, x = np.mgrid[0:1:300j, 0:1:300j]
    return 0.95 - 0.3 * x - 0.2 * y


@pytest.fixture(scope="module")
def expected():
    return like_mnist(1 - drawing())


INK = drawing()
FORMS = {
    "grey.png": lambda: grey(1 - INK),
    "light on dark.png": lambda: grey(INK),
    "faint.png": lambda: grey(0.6 - 0.3 * INK),
    "blue on cream.png": lambda: coloured(INK, (30, 40, 160), (240, 230, 200)),
    "yellow on blue.webp": lambda: coloured(INK, (250, 240, 90), (20, 20, 110)),
    "palette.gif": lambda: grey(1 - INK).quantize(64),
    "print.tiff": lambda: grey(1 - INK).convert("CMYK"),
    "16 bits.png": lambda: Image.fromarray((65535 * (1 - INK)).astype(np.uint16)),
    "dim 16 bits.png": lambda: Image.fromarray((4095 * (1 - INK)).astype(np.uint16)),
    "32 bits.tiff": lambda: Image.fromarray((1 - INK).astype(np.float32)),
    "on glass.png": lambda: on_glass(INK),
    "grey on glass.png": lambda: on_glass(INK, "LA"),
    "large.png": lambda: grey(1 - drawing(1200)),
    "wide margin.png": lambda: grey(1 - np.pad(INK, ((100, 0), (0, 300)))),
    "uneven light.png": lambda: grey(light() * (1 - 0.8 * INK)),
}


@pytest.mark.parametrize("name", FORMS)
def test_one_drawing_in_any_form_is_one_image(name, tmp_path, expected):
    FORMS[name]().save(tmp_path / name)
    image = load_picture(tmp_path / name)
    assert (image.shape, image.dtype) == ((1, 28, 28), torch.float32)
    # Eight bits, a palette or a second scaling move grey values a little, never the digit.
    assert (image - expected).abs().mean() < 0.01


# What was done to the picture when it was stored; the EXIF entry tells how to undo it.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["grey.png", "16 bits.png"])
def test_a_camera_that_was_held_otherwise_is_allowed_for(name, orientation, tmp_path, expected):
    picture, turn = FORMS[name](), TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture if turn is None else picture.transpose(turn)
    stored.save(tmp_path / name, exif=exif)
    assert torch.equal(load_picture(tmp_path / name), expected)


def test_of_an_animation_the_first_frame_counts(tmp_path, expected):
    grey(1 - INK).save(tmp_path / "two.gif", save_all=True, append_images=[grey(INK[::-1])])
    assert (load_picture(tmp_path / "two.gif") - expected).abs().mean() < 0.01


def test_a_photo_under_uneven_light_with_noise_shows_the_same_digit(tmp_path, expected):
    noise = 0.03 * np.random.default_rng(1).standard_normal(INK.shape)
    grey(light() * (1 - 0.8 * INK) + noise).save(tmp_path / "photo.jpg", quality=75)
    image = load_picture(tmp_path / "photo.jpg")
    # Noise of 0.03 on a stroke of 0.36 or more, one pixel of ours from 100 of the photo.
    assert (image - expected).abs().mean() < 0.02
    assert not image[0, :3].any()  # nothing of the paper is left


def test_dust_far_from_the_digit_moves_nothing(expected):
    paper = 1 - drawing()
    paper[10:12, 290:292] = 0
    assert torch.equal(like_mnist(paper), expected)


def centre_of_mass(image):
    mass, pixel = image[0], torch.arange(28.0)
    return [float((mass.sum(side) * pixel).sum() / mass.sum()) for side in (1, 0)]


def longer_side(image):
    return max(int(image[0].any(side).sum()) for side in (0, 1))


@pytest.mark.parametrize("angle", range(0, 360, 40))
def test_the_longer_side_has_20_pixels_and_the_centre_of_mass_is_that_of_mnist(angle):
    turned = grey(INK).rotate(angle, Image.Resampling.BICUBIC, translate=(angle / 20, -9))
    image = like_mnist(np.asarray(turned, np.float32) / 255)
    assert longer_side(image) == 20
    # Placed in whole pixels; MNIST has its own within half a pixel of 14, too.
    assert all(13.5 <= place <= 14.5 for place in centre_of_mass(image))


def test_mnist_itself_is_made_so_and_comes_back_as_it_was(test_images):
    for image in test_images.images:
        assert all(13.5 <= place <= 14.5 for place in centre_of_mass(image))
    same = torch.stack([like_mnist(image[0]) for image in test_images.images])
    # What is fainter than a tenth is cut: 0.1 at most on the faint pixels of an edge.
    assert (same - test_images.images).abs().mean() < 0.005


def test_enlarged_digits_are_recognised_as_the_originals_are(test_images, tmp_path):
    network, record = load_stored("csnn-16")
    enlarged = []
    for image in test_images.images:
        dark = grey(1 - image[0].numpy()).resize((300, 300), Image.Resampling.BICUBIC)
        dark.save(tmp_path / "digit.png")
        enlarged.append(load_picture(tmp_path / "digit.png"))
    digits = predict_stored(network, record, torch.stack(enlarged))
    n_same = int((digits == predict_stored(network, record, test_images.images)).sum())
    assert n_same >= 58, n_same  # 60 of 60 when this was written


@pytest.mark.parametrize("pen", [6, 25, 160])
def test_a_four_is_recognised_with_a_needle_or_a_brush_in_uneven_light(pen):
    network, record = load_stored("csnn-best")
    image = like_mnist(light() * (1 - 0.8 * drawing(pen=pen)))
    assert image.max() == 1  # as of all digits of MNIST, within one grey value
    assert predict_stored(network, record, image[None]).tolist() == [4]


def best_cut(values):
    """Otsu's criterion, tried at every cut between two different values."""
    best = {}
    for cut in np.unique(values)[:-1]:
        low, high = values[values <= cut], values[values > cut]
        between = len(low) * len(high) * (high.mean() - low.mean()) ** 2
        best[between] = (low.mean() + high.mean()) / 2
    return best[max(best)]


def test_otsus_threshold_is_that_of_trying_every_cut():
    rng = np.random.default_rng(0)
    for share in (0.02, 0.2, 0.5):
        bright = rng.random(2000) < share
        # 256 levels, one per bin: the bins then lose nothing but half their width.
        values = (bright * 150 + rng.normal(50, 15, 2000)).round().clip(0, 255)
        values[:2] = 0, 255
        assert abs(otsu(values) - best_cut(values)) <= 255 / 256
    assert otsu(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.5, abs=1 / 256)
    with pytest.raises(ValueError, match=r"^values must be at least two different numbers"):
        otsu(torch.ones(5))


def written(folder, name, content: bytes):
    (folder / name).write_bytes(content)
    return folder / name


def test_what_is_no_picture_is_refused_in_one_sentence_that_names_the_file(tmp_path):
    grey(1 - INK).save(tmp_path / "whole.png")
    half = (tmp_path / "whole.png").read_bytes()[:400]
    unreadable = [
        written(tmp_path, "half.png", half),
        written(tmp_path, "empty.png", b""),
        written(tmp_path, "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        written(tmp_path, "page.pdf", b"%PDF-1.7\n"),
        written(tmp_path, "page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        written(tmp_path, "nothing.jpg", bytes(range(256))),
    ]
    for file in unreadable:
        with pytest.raises(ValueError, match=r"^path must name a picture, got .*; save it as PNG$"):
            load_picture(file)
    with pytest.raises(
        FileNotFoundError, match=r"^path must name a picture that is there, got .*4"
    ):
        load_picture(tmp_path / "4.png")
    with pytest.raises(ValueError, match=r"^path must be the name of a picture, got .*a folder"):
        load_picture(tmp_path)
    for wrong in (None, 4, "", "https://example.org/four.png", "four.png/"):
        with pytest.raises(ValueError, match=r"^path must be the name of a file, got"):
            load_picture(wrong)


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    grey(1 - INK).save(tmp_path / "large.png")
    for limit in (80_000, 8_000):  # of 90,000 pixels: Pillow warns first, and refuses later
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=f"at most {limit} pixels, got .*; make it smaller"):
            load_picture(tmp_path / "large.png")


@pytest.mark.parametrize("brightness", [0.0, 0.5, 1.0])
def test_a_blank_sheet_shows_nothing_even_if_it_is_noisy(brightness, tmp_path):
    blank = brightness + 0.01 * np.random.default_rng(0).standard_normal((300, 300))
    for sheet in (np.full((300, 300), brightness), blank):
        grey(sheet).save(tmp_path / "blank.png")
        with pytest.raises(ValueError, match=r"path must .* digit, got .*blank.png: nothing in it"):
            load_picture(tmp_path / "blank.png")


@pytest.mark.parametrize("shape", [(1, 28, 28), (7, 28), (28,)])
def test_an_array_that_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"^picture must be \[H, W\], at least 8 by 8, got"):
        like_mnist(torch.zeros(shape))


def test_brightness_is_read_as_it_is_written(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "levels.png")
    assert torch.equal(read_grey(tmp_path / "levels.png"), torch.from_numpy(levels).float() / 255)
