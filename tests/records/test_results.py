"""What the ledger says of a preset, and of two: runs, means, spreads and intervals by hand."""

import math
from dataclasses import asdict, replace

import pytest

from snnlib.intervals import accuracy_interval, difference_interval
from snnlib.records.record import Result, RunRecord
from snnlib.records.reproduction import runs_of
from snnlib.records.results import Accuracies, accuracies, difference
from snnlib.records.student import mean_interval, student_factor
from snnlib.settings.presets import PRESETS

COUNTS = {"loss": 0.1, "n_images": 10, "seconds": 1.0}


def result(n_correct, n_images=100):
    return Result(n_correct, n_images, 2, *accuracy_interval(n_correct, n_images))


def run(seed, n_correct, protocol="honest", preset="fc", n_test=100, **settings):
    """A run of two epochs, 9 and then 8 of 10 training images right."""
    found, post = result(n_correct, n_test), protocol == "post"
    epochs = [
        {"number": n, "training": {**COUNTS, "n_correct": k}, "test": {**COUNTS, "n_correct": k}}
        for n, k in ((1, 9), (2, 8))
    ]
    return RunRecord(
        id=f"{preset}-{protocol}-{seed}-{n_correct}",
        claim="fc",
        preset=preset,
        question="?",
        settings=asdict(replace(PRESETS["fc"], seed=seed, protocol=protocol)) | settings,
        protocol=protocol,
        seed=seed,
        data_source="MNIST",
        n_training=60_000,
        n_validation=0 if post else 10,
        n_test=n_test,
        history=epochs,
        last=result(n_correct - 1, n_test) if post else None,
        best_on_test=found if post else None,
        validation_selected=None if post else found,
        versions={},
        commit="unknown",
        dirty=False,
        device="cpu",
        threads=1,
        seconds=60.0,
        finished="2026-01-31T12:00:00+00:00",
    )


def test_of_each_seed_the_last_line_counts_and_changed_settings_do_not():
    old, other, new, changed = run(0, 80), run(1, 90), run(0, 81), run(2, 99, lr=0.5)
    assert runs_of([old, other, new, changed], "fc", "honest") == [new, other]


def test_without_a_protocol_both_count_the_posts_first():
    honest, post = run(0, 80), run(0, 90, "post")
    assert runs_of(iter([honest, post]), "fc") == [post, honest]
    assert runs_of([honest, post], "fc", "honest") == [honest]
    assert runs_of([honest], "fc", "post") == []


def test_a_preset_or_protocol_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no preset 'fd'"):
        runs_of([], "fd")
    with pytest.raises(ValueError, match=r"protocol must be .*'best'"):
        runs_of([], "fc", "best")


def test_mean_spread_and_intervals_of_three_seeds():
    found = accuracies([run(0, 80), run(1, 90), run(2, 91)])
    assert found.by_seed == {0: 0.80, 1: 0.90, 2: 0.91}
    assert (len(found), found.n_images) == (3, 100)
    assert found.percents == pytest.approx([80, 90, 91])
    assert found.mean == pytest.approx(0.87)
    # Deviations -7, 3 and 4 points: squares 49 + 9 + 16 = 74, over 2.
    assert found.spread == pytest.approx(math.sqrt(37) / 100)
    assert found.interval == accuracy_interval(87, 100)
    assert found.ends == "[79.02, 92.24]"
    # 4.30 * 6.0828 / sqrt(3) = 15.10 points; the upper end is cut at 1.
    assert found.over_seeds == pytest.approx((0.87 - 0.1510, 1.0), abs=1e-4)


def test_one_seed_has_no_spread_and_none_has_no_mean():
    one, none = accuracies([run(3, 80)]), accuracies([])
    assert (one.mean, one.spread, one.over_seeds) == (0.8, None, None)
    assert not none
    with pytest.raises(ValueError, match="by_seed"):
        _ = none.mean


def test_each_measure_reads_another_number_of_a_run():
    runs = [run(0, 90, "post")]
    shares = {name: accuracies(runs, name).mean for name in ("result", "last", "best_on_test")}
    assert shares == {"result": 0.90, "last": 0.89, "best_on_test": 0.90}
    trained = accuracies(runs, "best_in_training")
    assert (trained.mean, trained.n_images) == (0.9, 10)


def test_runs_that_cannot_be_averaged_are_refused():
    with pytest.raises(ValueError, match=r"one of each seed.*seed 0 of fc twice"):
        accuracies([run(0, 80), run(0, 90, "post")])
    with pytest.raises(ValueError, match="same number of images"):
        accuracies([run(0, 80), run(1, 90, n_test=200)])
    with pytest.raises(ValueError, match=r"honest protocol.*'last'"):
        accuracies([run(0, 80)], "last")
    with pytest.raises(ValueError, match=r"measure.*'best'"):
        accuracies([run(0, 80)], "best")


def test_an_unpaired_difference_pools_the_spreads():
    # Spreads 0.01 (two free) and sqrt(0.0002) (one free): (2 * 0.0001 + 0.0002) / 3.
    one = Accuracies({0: 0.90, 1: 0.91, 2: 0.92}, 1000)
    other = Accuracies({0: 0.89, 1: 0.87}, 1000)
    found = difference(one, other)
    assert found.mean == pytest.approx(0.03)
    assert found.spread == pytest.approx(math.sqrt(0.0004 / 3))
    assert found.error == pytest.approx(math.sqrt(0.0004 / 3 * 5 / 6))
    # 3.18 * 0.010541 = 0.033520
    assert found.over_seeds == pytest.approx((-0.003520, 0.063520), abs=1e-6)
    assert found.on_images == pytest.approx(difference_interval(0.91, 1000, 0.88, 1000))


def test_one_seed_against_three_still_knows_the_spread_of_the_three():
    three, one = Accuracies({0: 0.90, 1: 0.91, 2: 0.92}, 1000), Accuracies({0: 0.80}, 1000)
    assert difference(three, one).spread == pytest.approx(0.01)


def test_a_paired_difference_takes_the_luck_of_a_seed_out():
    one = Accuracies({0: 0.50, 1: 0.70, 2: 0.90}, 1000)
    other = Accuracies({1: 0.60, 0: 0.41, 7: 0.10}, 1000)
    found = difference(one, other, paired=True)
    # Gains of seeds 0 and 1: 9 and 10 points; spread sqrt(0.5), error 0.5 points.
    assert found.mean == pytest.approx(0.095)
    assert found.spread == pytest.approx(math.sqrt(0.5) / 100)
    assert found.error == pytest.approx(0.005)
    assert found.over_seeds == pytest.approx((0.095 - 0.06355, 0.095 + 0.06355), abs=1e-6)
    assert found.on_images == pytest.approx(difference_interval(0.6, 1000, 0.505, 1000))


@pytest.mark.parametrize("paired", [True, False])
def test_one_seed_each_leaves_only_the_images(paired):
    one, other = Accuracies({0: 0.9}, 100), Accuracies({0: 0.8}, 100)
    found = difference(one, other, paired=paired)
    assert (found.spread, found.error, found.over_seeds) == (None, None, None)
    assert found.on_images == difference_interval(0.9, 100, 0.8, 100)


def test_seeds_in_common_are_needed_for_pairs_and_some_seeds_for_any_difference():
    one, other = Accuracies({0: 0.9}, 100), Accuracies({1: 0.8}, 100)
    with pytest.raises(ValueError, match="by_seed"):
        difference(one, other, paired=True)
    with pytest.raises(ValueError, match="by_seed"):
        difference(one, Accuracies({}, 100))


def test_students_factor_by_its_closed_forms_and_tables():
    assert student_factor(1) == round(math.tan(0.95 * math.pi / 2), 2)
    # With two free, P(|T| < t) = t / sqrt(2 + t^2).
    assert student_factor(2) == round(0.95 * math.sqrt(2 / (1 - 0.95**2)), 2)
    printed = {3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 30: 2.04, 120: 1.98}
    assert {free: student_factor(free) for free in printed} == printed
    assert student_factor(100_000) == 1.96


def test_the_interval_of_a_mean_of_two():
    # Mean 2, standard error 1: twice the tangent's factor wide.
    assert mean_interval([1, 3]) == pytest.approx((2 - 12.71, 2 + 12.71))
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])
