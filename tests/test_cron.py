"""A scheduled backup is due when the operator's clock says so, every day of the year."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bequest.errors import UsageError
from bequest_adapters import cron
from bequest_adapters.clock import SystemClock
from bequest_adapters.cron import CronSchedule

AMSTERDAM = "Europe/Amsterdam"


def moments(expression: str, after: str, count: int, zone: str = AMSTERDAM) -> list[str]:
    schedule = CronSchedule(expression, zone)
    time = datetime.fromisoformat(after).timestamp()
    found: list[str] = []
    for _ in range(count):
        time = schedule.next_after(time)
        found.append(datetime.fromtimestamp(time, ZoneInfo(zone)).isoformat())
    return found


def test_midnight_is_the_operators_midnight() -> None:
    assert moments("0 0 * * *", "2026-11-22T10:00:00+00:00", 2) == [
        "2026-11-23T00:00:00+01:00",
        "2026-11-24T00:00:00+01:00",
    ]


def test_the_moment_itself_is_not_after_itself() -> None:
    assert moments("0 0 * * *", "2026-11-22T00:00:00+01:00", 1) == ["2026-11-23T00:00:00+01:00"]


def test_a_fraction_before_it_is_due_it_is_still_to_come() -> None:
    before = "2026-11-21T23:59:59.750000+01:00"
    assert moments("0 0 * * *", before, 1) == ["2026-11-22T00:00:00+01:00"]


def test_a_time_that_spring_skips_is_due_right_after_the_change() -> None:
    assert moments("30 2 * * *", "2026-03-28T12:00:00+01:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_autumn_repeats_is_due_once() -> None:
    assert moments("30 2 * * *", "2026-10-24T12:00:00+02:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_asked_between_the_two_passes_of_the_repeated_hour_it_never_answers_with_the_past() -> None:
    between = "2026-10-25T02:15:00+01:00"
    assert moments("30 2 * * *", between, 1) == ["2026-10-26T02:30:00+01:00"]


def test_every_hour_goes_by_elapsed_time_through_the_change() -> None:
    assert moments("0 * * * *", "2026-10-25T01:30:00+02:00", 3) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


@pytest.mark.parametrize(
    "expression", ["", "0 0 * *", "61 0 * * *", "midnight", "@daily", "0 0 * * MOON"]
)
def test_a_wrong_expression_says_what_a_right_one_looks_like(expression: str) -> None:
    with pytest.raises(UsageError, match=r"0 0 \* \* \*"):
        CronSchedule(expression, "UTC")


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30 2 *"])
def test_a_date_that_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="no backup would ever be due"):
        CronSchedule(expression, "UTC")


@pytest.mark.parametrize("name", ["Europe/Amsterdm", "Europe", "../etc/passwd", "", "/etc/hosts"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="IANA name"):
        CronSchedule("0 0 * * *", name)


def test_an_unknown_zone_names_a_similar_one() -> None:
    with pytest.raises(UsageError, match="Europe/Amsterdam"):
        CronSchedule("0 0 * * *", "Europe/Amsterdm")


def test_without_a_name_the_variable_tz_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    noon = datetime.fromisoformat("2026-11-22T12:00:00+05:30").timestamp()
    midnight = datetime.fromisoformat("2026-11-23T00:00:00+05:30").timestamp()
    assert CronSchedule("0 0 * * *").next_after(noon) == midnight


def test_without_a_name_and_tz_the_systems_setting_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(cron, "LOCAL_ZONE_FILE", tmp_path / "absent")
    assert CronSchedule("0 0 * * *").next_after(0.0) == 86400.0


def test_a_tz_that_is_no_name_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TZ", "XYZ-3:15")
    with caplog.at_level(logging.WARNING, "bequest"):
        CronSchedule("0 0 * * *")
    assert "Name a time zone" in caplog.text


def test_the_clock_moves_on() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > began
    assert clock.time() > datetime(2024, 1, 1).timestamp()
