"""``make colab-check`` as far as it goes without a new environment."""

import json
from pathlib import Path

import colab_check
import pytest
import repository
from chapter_rules import SETUP


def test_the_first_cell_installs_the_wheel_and_is_otherwise_that_of_the_chapters(tmp_path):
    owner, name = repository.current()
    original = SETUP.replace("{owner}", owner).replace("{name}", name)
    address = f"git+https://github.com/{owner}/{name}"
    wheel = tmp_path / "snnlib-0.1.0-py3-none-any.whl"
    expected = original.replace(address, wheel.as_uri())
    assert expected != original
    assert colab_check.first_cell(wheel) == expected


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"torch": "2.11.0"}, {"torch": "2.15.0", "snnlib": "0.1.0"}, "replaced Colab's own torch"),
        ({"torch": "2.11.0", "snnlib": "0.1.0"}, {}, "snnlib is there already"),
    ],
)
def test_an_install_that_proves_nothing_is_refused(monkeypatch, before, after, message):
    answers = iter([json.dumps(before), json.dumps(after)])
    monkeypatch.setattr(colab_check, "read", lambda *command, folder: next(answers))
    monkeypatch.setattr(colab_check, "run", lambda *command, folder: None)
    with pytest.raises(AssertionError, match=message):
        colab_check.install(Path("python"), Path(), Path("snnlib.whl").absolute())


def test_a_changed_version_is_told(monkeypatch, capsys):
    before, after = {"torch": "2.11.0", "tqdm": "4.67.3"}, {"torch": "2.11.0", "tqdm": "4.70.1"}
    answers = iter([json.dumps(before), json.dumps(after)])
    monkeypatch.setattr(colab_check, "read", lambda *command, folder: next(answers))
    monkeypatch.setattr(colab_check, "run", lambda *command, folder: None)
    assert colab_check.install(Path("python"), Path(), Path("a.whl").absolute()) == after
    assert capsys.readouterr().out == "changed by the first cell: tqdm 4.67.3 -> 4.70.1\n"


def test_nothing_outside_leads_python_to_the_checkout(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MPLBACKEND"):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("HOME", "kept")
    assert "somewhere" not in colab_check.outside().values()
    assert colab_check.outside()["HOME"] == "kept"
