"""Two networks on the same images: published tables, the exact law, and brute force."""

import itertools
import math

import pytest

from snnlib.intervals import difference_interval, mcnemar, paired_difference_interval

# Pairs right in both, in the first only, in the second only, in neither.
BENTUR = (1, 1, 7, 12)  # airway hyper-responsiveness before and after a transplantation
CAVO = (59, 6, 16, 80)  # complete response before and after consolidation
ALTMAN = (14, 5, 0, 22)  # Altman et al. 2000, Statistics with Confidence, Table 6.2


def interval(both, first, second, neither):
    return paired_difference_interval(both, first, second, both + first + second + neither)


def test_p_of_mcnemars_exact_test_is_the_published_one():
    # Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91.
    assert mcnemar(*BENTUR[1:3]) == pytest.approx(0.070, abs=5e-4)
    # Agresti's approval ratings, as in the vignette of Fay's exact2x2.
    assert mcnemar(150, 86) == pytest.approx(3.716e-05, abs=5e-9)


def test_p_by_hand():
    assert mcnemar(0, 0) == mcnemar(1, 0) == mcnemar(4, 4) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == 2 / 32
    assert mcnemar(1, 7) == 2 * (1 + 8) / 256


def test_p_is_twice_the_tail_of_the_binomial_law():
    stats = pytest.importorskip("scipy.stats")
    for first, second in itertools.product((0, 3, 17, 150), (2, 11, 86)):
        expected = stats.binomtest(first, first + second).pvalue
        assert mcnemar(first, second) == pytest.approx(expected, rel=1e-10)


def test_thousands_of_images_are_no_trouble():
    # So many are normal: 9,900.5 is 99.5 below the mean of 20,000 coins, whose variance is 5,000.
    expected = math.erfc(99.5 / math.sqrt(2 * 5_000))
    assert mcnemar(9_900, 10_100) == pytest.approx(expected, abs=1e-5)
    assert mcnemar(0, 5_000) == 0.0


def test_equally_good_networks_are_told_apart_at_most_as_often_as_p_says():
    n = 40
    for level in (0.01, 0.05, 0.2):
        said = sum(math.comb(n, k) for k in range(n + 1) if mcnemar(k, n - k) <= level)
        assert said / 2**n <= level


@pytest.mark.parametrize(
    ("pairs", "published", "digits"),
    [
        (ALTMAN, (0.011, 0.226), 3),
        # Fagerland, Lydersen and Laake 2017, ch. 8, square-and-add.
        (BENTUR, (-0.507, -0.026), 3),
        (CAVO, (-0.1186, -0.0046), 4),
    ],
)
def test_paired_interval_is_the_published_one(pairs, published, digits):
    assert interval(*pairs) == pytest.approx(published, abs=0.5 * 10**-digits)


def test_paired_interval_covers_the_truth_as_often_as_it_promises():
    # Exact coverage, by summing the multinomial law over all tables of 24 images. The
    # method keeps 95 % on the average, not for each truth (Newcombe 1998, Table III).
    n, covered = 24, []
    laws = [(0.5, 0.2, 0.1, 0.2), (0.7, 0.1, 0.1, 0.1), (0.3, 0.3, 0.3, 0.1), (0.4, 0.4, 0.1, 0.1)]
    tables = [
        (a, b, c, n - a - b - c)
        for a, b, c in itertools.product(range(n + 1), repeat=3)
        if a + b + c <= n
    ]
    intervals = {table: interval(*table) for table in tables}
    for law in laws:
        share = 0.0
        for table, (low, high) in intervals.items():
            if low <= law[1] - law[2] <= high:
                ways = math.factorial(n) // math.prod(map(math.factorial, table))
                share += ways * math.prod(p**k for p, k in zip(law, table, strict=True))
        covered.append(share)
    assert all(0.93 < share < 0.99 for share in covered), covered


def test_paired_interval_is_odd_holds_the_difference_and_stays_in_bounds():
    n = 9
    for a, b, c in itertools.product(range(n + 1), repeat=3):
        if a + b + c > n:
            continue
        low, high = paired_difference_interval(a, b, c, n)
        assert -1 <= low <= (b - c) / n <= high <= 1
        assert paired_difference_interval(a, c, b, n) == pytest.approx((-high, -low), abs=1e-15)


def test_without_correlation_it_is_the_interval_of_two_samples():
    # Independent: 16 * 4 = 8 * 8, so that phi is 0.
    low, high = paired_difference_interval(16, 8, 8, 36)
    assert (low, high) == pytest.approx(difference_interval(24 / 36, 36, 24 / 36, 36))


def test_networks_that_agree_on_most_images_are_compared_more_sharply():
    low, high = paired_difference_interval(9_150, 150, 90, 10_000)
    apart = difference_interval(0.93, 10_000, 0.924, 10_000)
    assert high - low < 0.5 * (apart[1] - apart[0])
    assert low > 0 > apart[0]


def test_impossible_tables_are_refused():
    with pytest.raises(ValueError, match=r"n_only_second must be a whole number in 0\.\.2, got 3"):
        paired_difference_interval(3, 3, 3, 8)
    with pytest.raises(ValueError, match="n_images must be a whole number of at least 1, got 0"):
        paired_difference_interval(0, 0, 0, 0)
    with pytest.raises(
        ValueError, match="n_only_first must be a whole number of at least 0, got -1"
    ):
        mcnemar(-1, 2)
