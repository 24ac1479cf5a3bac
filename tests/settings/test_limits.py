"""Settings far beyond every use are refused where all settings are checked."""

from dataclasses import replace

import pytest

from snnlib.cli.main import main
from snnlib.settings.ff_experiment import FFConfig
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

FC, POST = PRESETS["fc"], FF_PRESETS["ff-1"]
FF = next(config for config in FF_PRESETS.values() if isinstance(config, FFConfig))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        *((FC, name) for name in ("n_steps", "early_steps", "anytime_steps", "channels")),
        *((FF, name) for name in ("n_steps", "hidden", "dense")),
        *((POST, name) for name in ("n_steps", "widths")),
    ],
)
def test_a_setting_that_no_run_could_follow_is_refused_by_name(config, name):
    for far in (10**6 + 1, 10**20, 10**400):
        given = (far,) if name in ("hidden", "dense", "widths") else far
        with pytest.raises(ValueError, match=f"^{name} must be "):
            replace(config, **{name: given})


def test_the_largest_number_of_steps_is_taken_and_one_more_is_told():
    assert replace(FC, n_steps=10**6).n_steps == 10**6
    with pytest.raises(ValueError, match=r"^n_steps must be at most 1000000, got 1000001$"):
        replace(FC, n_steps=10**6 + 1)


@pytest.mark.parametrize("preset", ["fc", "ff-1"])
@pytest.mark.parametrize(("flag", "value"), [("-T", str(10**20)), ("-tau", "1e300")])
def test_the_command_line_refuses_it_in_one_sentence(preset, flag, value, tmp_path, capsys):
    assert main(["train", preset, flag, value, "--out-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"snnlib: {'n_steps' if flag == '-T' else 'tau'} must be a ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [FC, FF])
def test_images_are_turned_at_most_half_round_and_stay_in_sight(config):
    moved = replace(config, shift_pixels=27, rotate_degrees=180.0)
    assert (moved.shift_pixels, moved.rotate_degrees) == (27, 180.0)
    for far in (28, 10**12):
        with pytest.raises(ValueError, match=rf"^shift_pixels must be .* in 0\.\.27, got {far}"):
            replace(config, shift_pixels=far)
    for far in (180.5, 1e300):
        with pytest.raises(ValueError, match=r"^rotate_degrees must be .* in \[0, 180\], got"):
            replace(config, rotate_degrees=far)
