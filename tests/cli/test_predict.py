"""``snnlib predict``: the digits in pictures of the user, and one sentence where there is none."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from snnlib.cli.main import main
from snnlib.cli.predict import bars, drawn, verdict
from snnlib.data import load_picture
from snnlib.experiments.stored_weights import load_stored, rates_stored


@pytest.fixture
def files(test_images, tmp_path):
    """The first three of the test images, dark on light and ten times as large."""
    paths = []
    for number, image in enumerate(test_images.images[:3, 0]):
        dark = Image.fromarray((255 - 255 * image.numpy()).round().astype(np.uint8))
        paths.append(str(tmp_path / f"{number}.png"))
        dark.resize((280, 280), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def test_each_picture_has_its_line_when_asked_to_be_quiet(files, test_images, capsys):
    assert main(["predict", *files, "--quiet", "--preset", "csnn-16"]) == 0
    digits = test_images.labels[:3].tolist()
    expected = [f"{path}: {digit}" for path, digit in zip(files, digits, strict=True)]
    assert capsys.readouterr().out.splitlines() == expected


def test_otherwise_the_picture_is_drawn_and_ten_rates_stand_below(files, test_images, capsys):
    assert main(["predict", files[0]]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{files[0]}: {test_images.labels[0]}"
    assert rest[:28] == drawn(load_picture(files[0]))
    rates = [float(line.split()[1]) for line in rest[28:]]
    assert len(rates) == 10
    assert rates == sorted(rates, reverse=True)


def test_json_tells_the_rates_that_the_network_gives(files, capsys):
    assert main(["predict", *files, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    network, record = load_stored("csnn-best")
    rates = rates_stored(network, record, torch.stack([load_picture(path) for path in files]))
    assert [line["picture"] for line in told] == files
    assert [line["rates"] for line in told] == rates.tolist()
    assert [line["digit"] for line in told] == rates.argmax(1).tolist()
    assert {line["preset"] for line in told} == {"csnn-best"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.png"], "PICTURE must name a picture that is there, got missing.png"),
        (["."], "PICTURE must be the name of a picture, got '.'; that is a folder"),
        (["text.png"], "PICTURE must name a picture, got text.png, which is damaged or"),
        (["blank.png"], "PICTURE must name a picture of a digit, got blank.png: nothing in it"),
        (["good.png", "--preset", "csnn-bset"], "did you mean csnn-best"),
        (["good.png", "blank.png"], "got blank.png"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence_and_nothing_else(
    words, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("four")
    Image.new("L", (100, 100), 200).save("blank.png")
    good = Image.new("L", (100, 100), 200)
    good.paste(0, (45, 20, 55, 80))
    good.save("good.png")
    assert main(["predict", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("snnlib: ")
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_neurons_that_fire_alike_or_not_at_all_are_no_single_digit():
    assert verdict([0.25, 1.0, *[0.0] * 8]) == "1"
    assert verdict([0.5, 0.0, 0.5, *[0.0] * 7]) == "0 or 2, whose neurons fire alike"
    assert verdict([0.0] * 10) == "no digit, since no output neuron fires"


def test_a_drawing_has_two_letters_per_pixel_and_a_bar_is_as_long_as_its_rate():
    image = torch.zeros(1, 28, 28)
    image[0, 3, 2], image[0, 3, 3] = 1.0, 0.5
    lines = drawn(image)
    assert len(lines) == 28
    assert lines[3] == "    @@=="
    assert bars([0.0, 1.0, 0.5])[:2] == ["1  1.00  " + "#" * 20, "2  0.50  " + "#" * 10]
    assert bars([0.0, 1.0, 0.5])[2] == "0  0.00"
