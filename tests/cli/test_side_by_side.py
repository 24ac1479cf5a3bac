"""Independent runs side by side: every line under its name, a failure told, Ctrl-C for all."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from snnlib.cli import processes as side_by_side
from snnlib.cli.main import main
from snnlib.cli.processes import run_side_by_side


@pytest.fixture
def scripts(monkeypatch):
    """Let each run be a short script in place of ``snnlib``."""
    started = subprocess.Popen

    def start(words, **options):
        child = started([sys.executable, "-c", words[3]], **options)
        start.children.append(child)
        return child

    start.children = []
    monkeypatch.setattr(side_by_side.subprocess, "Popen", start)
    return start.children


def test_every_run_has_its_name_and_its_share_of_the_cores(scripts, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    tell = "import os; print(os.environ['OMP_NUM_THREADS'])"
    told, done = [], []
    runs = {"a": [tell], "b": [tell], "c": [tell]}
    assert run_side_by_side(runs, 2, tell=told.append, finished=done.append) == 0
    assert sorted(told) == ["a: 4", "b: 4", "c: 4"]
    assert sorted(done) == ["a", "b", "c"]


def test_a_failed_or_killed_run_is_told_and_stops_no_other(scripts):
    done = []
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    runs = {"fails": ["raise SystemExit(1)"], "killed": [killed], "works": ["pass"]}
    assert run_side_by_side(runs, 1, tell=str, finished=done.append) == 1
    assert done == ["works"]
    assert run_side_by_side({"killed": [killed]}, 1, tell=str, finished=done.append) == 1


@pytest.fixture
def ctrl_c_heard():
    """Ctrl-C works, even where a shell began the tests in the background and switched it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_heard")
def test_ctrl_c_ends_all_that_run_and_starts_no_more(scripts):
    begun = threading.Barrier(2)

    def tell(line):
        if "begun" in line and begun.wait(30) == 0:  # both are running
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    wait = "import time; print('begun', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side({name: [wait] for name in "abcd"}, 2, tell=tell, finished=str)
    assert [child.returncode for child in scripts] == [-signal.SIGINT] * 2


def test_fewer_than_one_at_a_time_is_refused(capsys, tmp_path):
    places = ["--ledger", str(tmp_path / "l.jsonl"), "--out-dir", str(tmp_path)]
    assert main(["reproduce", "fc", "--jobs", "0", *places]) == 1
    assert "jobs must be at least 1, got 0" in capsys.readouterr().err


def test_ctrl_c_at_the_command_line_tells_how_to_go_on(capsys, tmp_path, monkeypatch):
    def interrupted(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("snnlib.cli.main.run_side_by_side", interrupted)
    words = ["reproduce", "fc", "--jobs", "2", "--ledger", str(tmp_path / "l.jsonl")]
    assert main(words) == 130
    assert capsys.readouterr().err.endswith(" ".join(["snnlib", *words]) + "\n")
