"""Tables of benchmark results: figures, floors, aims."""

import pytest

from benchmarks.result import Aim, Result, growth, table


def test_an_aim_limits_the_figure_or_its_ratio() -> None:
    assert Result("m", "w", 5.0, "ms", aims=[Aim(5)]).is_met
    assert not Result("m", "w", 5.1, "ms", aims=[Aim(5)]).is_met
    assert Result("m", "w", 30.0, "1/s", 100.0, [Aim(0.25, at_least=True, of_ratio=True)]).is_met
    assert not Result("m", "w", 9.0, "s", 2.0, [Aim(10), Aim(3, of_ratio=True)]).is_met
    assert Result("m", "w", 9.0, "s").is_met is None


def test_without_a_floor_no_aim_of_a_ratio_is_met() -> None:
    assert Result("m", "w", 9.0, "s", aims=[Aim(3, of_ratio=True)]).is_met is False


def test_a_table_has_a_verdict_for_each_aim() -> None:
    found = [
        Result("cold start", "everything", 9.0, "s", 4.5, [Aim(10), Aim(1.5, of_ratio=True)]),
        Result("burst", "events", 2999.5, "events/s", note="10 solves"),
    ]
    lines = [[cell.strip() for cell in line.split("|")] for line in table(found).splitlines()]
    assert lines[2][1:7] == [
        "cold start: everything",
        "9.00 s",
        "4.50 s",
        "2.00 x",
        "≤ 10, ≤ 1.5 x",
        "not met",
    ]
    assert lines[3][1:7] == ["burst: events (10 solves)", "3,000 events/s", "", "", "", ""]


def test_growth_is_from_each_scale_to_the_next() -> None:
    by_scale = [
        ("S", [Result("m", "one", 2.0, "s"), Result("m", "gone", 1.0, "s")]),
        ("M", [Result("m", "one", 3.0, "s")]),
    ]
    assert "| S to M | growth |" in growth(by_scale)
    assert "| m: one, s | 1.50 x |" in growth(by_scale)
    assert "gone" not in growth(by_scale)
    assert growth(by_scale[:1]) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12_345.6, "12,346 s"), (12.34, "12.3 s"), (1.234, "1.23 s"), (0.01, "0.010 s")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert f" {shown} " in table([Result("m", "w", value, "s")])
