"""The stored speed figures: what travels in the package, and what is refused."""

import copy
import json
import runpy
import statistics
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from snnlib.cli.flags import make_parser
from snnlib.records import bench_results
from snnlib.records.bench_results import bench_from, bench_path, read_bench

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "machine": {
        "processor": "test",
        "instructions": [],
        "cores": 1,
        "python": "3.11",
        "versions": {"torch": "2.6"},
    },
    "rows": [
        {
            "what": "a step",
            "against": "peer",
            "goal": 3,
            "met": True,
            "min": 3.0,
            "median": 4.0,
            "max": 5.0,
        }
    ],
    "details": {
        "a step": {
            "peer": {"images_per_second": 25.0, "seconds": [3.0, 4.0, 5.0]},
            "ours": {"images_per_second": 100.0, "seconds": [1.0, 1.0, 1.0]},
        }
    },
}


def damaged(*path, value):
    data = copy.deepcopy(GOOD)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


def test_ratios_are_taken_round_by_round_and_the_batch_follows_from_the_pace():
    bench = bench_from(GOOD)
    assert bench.ratios("a step", "ours", "peer") == [3.0, 4.0, 5.0]
    assert bench.n_images == {"a step": 100}
    assert (bench.rows[0].met, bench.rows[0].kind) == (True, "speed")


@pytest.mark.parametrize("field", ["machine", "rows", "details"])
def test_a_file_without_figures_is_refused_by_name(tmp_path, field):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({name: value for name, value in GOOD.items() if name != field}))
    with pytest.raises(ValueError, match=rf"figures\.json cannot be used: it has no '{field}'"):
        read_bench(path)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (damaged("rows", 0, "median", value=float("nan")), "min <= median <= max"),
        (damaged("rows", 0, "min", value=-1.0), "min <= median <= max"),
        (damaged("rows", 0, "min", value=4.5), "min <= median <= max"),
        (damaged("details", "a step", "ours", "seconds", value=[1.0]), "number of rounds"),
        (damaged("details", "a step", "ours", "seconds", value=[1.0, 0.0, 1.0]), "seconds greater"),
    ],
)
def test_figures_that_no_clock_gives_are_not_written(data, named):
    check = runpy.run_path(str(ROOT / "bench" / "run.py"))["check"]
    check(bench_from(GOOD))
    with pytest.raises(ValueError, match=named):
        check(bench_from(data))


def test_a_missing_or_torn_file_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="snnlib bench --keep"):
        read_bench(tmp_path / "none.json")
    torn = tmp_path / "torn.json"
    torn.write_text(json.dumps(GOOD)[:50])
    with pytest.raises(ValueError, match=r"torn\.json cannot be used"):
        read_bench(torn)


def test_the_packaged_rows_follow_from_the_seconds_of_their_rounds():
    bench = read_bench()
    for title, race in bench.seconds.items():
        ours = [name for name in race if name.startswith("snnlib")]
        rows = [r for r in bench.rows if r.kind == "speed" and r.what.startswith(title)]
        assert rows, title
        for row in rows:
            fits = [bench.ratios(title, name, row.against) for name in ours]
            assert any(
                statistics.median(r) == pytest.approx(row.median)
                and min(r) == pytest.approx(row.low)
                and max(r) == pytest.approx(row.high)
                for r in fits
            ), row.what


def test_the_figures_travel_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["snnlib"]
    inside = bench_path().relative_to(ROOT / "src" / "snnlib").as_posix()
    assert any(fnmatch(inside, pattern) for pattern in patterns)


def test_the_command_renews_the_figures_only_when_asked():
    parse = make_parser().parse_args
    assert (parse(["bench"]).keep, parse(["bench"]).json) == (False, None)
    given = parse(["bench", "--keep", "--rounds", "3", "--json", "x.json"])
    assert (given.keep, given.rounds, given.json) == (True, 3, "x.json")


@pytest.mark.parametrize("keep", [False, True])
def test_the_script_joins_both_networks_and_keeps_them_only_when_asked(
    tmp_path, monkeypatch, capsys, keep
):
    def measure(command, check):
        """Stand in for a benchmark: the same figures under another title."""
        data = copy.deepcopy(GOOD)
        data["details"] = {Path(command[1]).stem: data["details"]["a step"]}
        Path(command[command.index("--json") + 1]).write_text(json.dumps(data))

    kept, written = tmp_path / "kept.json", tmp_path / "written.json"
    monkeypatch.setattr(subprocess, "run", measure)
    monkeypatch.setattr(bench_results, "bench_path", lambda: kept)
    words = ["run.py", "--json", str(written), *(["--keep"] if keep else [])]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(ROOT / "bench" / "run.py"), run_name="__main__")

    bench = read_bench(written)
    assert list(bench.seconds) == ["bench_fc", "bench_csnn"]
    assert len(bench.rows) == 2
    assert bench.finished is not None
    assert kept.exists() == keep
    assert ("kept.json" in capsys.readouterr().out) == keep
