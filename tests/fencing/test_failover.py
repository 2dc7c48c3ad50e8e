"""A standby that took over without the last transactions does not replace what they are in."""

from __future__ import annotations

from pathlib import Path

import pytest

import bequest
from tests.servers.postgresql_pair import PostgresqlPair

from .machines import PostgresqlMachine, backup, sites_in


@pytest.mark.parametrize("writes_after", [0, 3])
def test_a_failover_with_loss_is_refused_and_both_histories_are_kept(
    postgresql_pair: PostgresqlPair, tmp_path: Path, writes_after: int
) -> None:
    pair, store = postgresql_pair, str(tmp_path / "o.bequest")
    machine = PostgresqlMachine.made(pair.primary)
    machine.write("Utrecht")
    backup(machine, store)
    pair.catch_up()
    pair.cut_off()
    for name in ("Delft", "Gouda"):
        machine.write(name)
        backup(machine, store)
    held = machine.sites()
    address = pair.on_standby(machine.address)
    promoted = PostgresqlMachine(pair.fail_over(), address)
    assert promoted.sites() == ["Utrecht"]
    for number in range(writes_after):
        promoted.write(f"after {number}")
    with pytest.raises(bequest.Refused, match="forked"):
        backup(promoted, store)
    assert sites_in(store, tmp_path) == held
    report = bequest.adopt(promoted.url, store)
    assert report.kept is not None
    assert sites_in(report.kept, tmp_path) == held
    assert sites_in(store, tmp_path) == promoted.sites()


def test_a_failover_that_lost_nothing_goes_on_by_itself(
    postgresql_pair: PostgresqlPair, tmp_path: Path
) -> None:
    pair, store = postgresql_pair, str(tmp_path / "o.bequest")
    machine = PostgresqlMachine.made(pair.primary)
    machine.write("Utrecht")
    backup(machine, store)
    pair.catch_up()
    promoted = PostgresqlMachine(pair.fail_over(), pair.on_standby(machine.address))
    promoted.write("Delft")
    assert backup(promoted, store).serial == 2
    assert sites_in(store, tmp_path) == ["Utrecht", "Delft"]
