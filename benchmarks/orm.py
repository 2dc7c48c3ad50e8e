"""A controller that works through SQLAlchemy's ORM, with one form of capture or none.

Run as a program of its own, because SQLAlchemy-Continuum changes every mapper of a process:

    python -m benchmarks.orm CAPTURE SYNCHRONOUS COMMITS BULK FOLDER

It measures the same work on a database without and one with the capture, commit by commit in turns,
and prints the seconds of both as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, ForeignKey, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

import bequest

from .bench import url


def models(versioned: bool) -> tuple[Any, Any]:
    """The mapped classes: a base with its site and device."""

    class Base(DeclarativeBase):
        pass

    class Site(Base):
        __tablename__ = "site"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    class Device(Base):
        __tablename__ = "device"
        if versioned:
            __versioned__: Any = {}
        id: Mapped[int] = mapped_column(primary_key=True)
        site_id: Mapped[int] = mapped_column(ForeignKey("site.id"), index=True)
        name: Mapped[str]
        address: Mapped[str]
        config: Mapped[str]
        weight: Mapped[float]

    configure_mappers()
    return Base, (Site, Device)


def engine_at(path: Path, synchronous: str) -> Engine:
    engine = create_engine(url(path))

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    return engine


class Controller:
    """One database and the classes mapped to it."""

    def __init__(self, engine: Engine, place: str, *, versioned: bool, captured: bool) -> None:
        base, (site, self.device) = models(versioned)
        self.engine = engine
        base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add(site(id=1, name="head office"))
            session.commit()
        if captured:
            bequest.install(place)
        self.session = Session(self.engine)

    def close(self) -> None:
        self.session.close()
        self.engine.dispose()

    def made(self, number: int) -> Any:
        return self.device(
            site_id=1,
            name=f"device {number}",
            address=f"10.0.{number % 250}.{number % 199}",
            config='{"mtu": 1500, "tags": ["a", "b"]}',
            weight=number * 0.37,
        )

    def commit_one(self, number: int) -> float:
        self.session.add(self.made(number))
        begin = time.perf_counter()
        self.session.commit()
        return time.perf_counter() - begin

    def commit_many(self, count: int) -> float:
        begin = time.perf_counter()
        self.session.add_all([self.made(number) for number in range(count)])
        self.session.commit()
        taken = time.perf_counter() - begin
        self.session.expunge_all()
        return taken


def on(address: URL, *, captured: bool) -> Controller:
    """A controller on a server, without Continuum."""
    place = address.render_as_string(hide_password=False)
    return Controller(create_engine(address), place, versioned=False, captured=captured)


def in_file(path: Path, synchronous: str, *, versioned: bool, captured: bool) -> Controller:
    engine = engine_at(path, synchronous)
    return Controller(engine, url(path), versioned=versioned, captured=captured)


def main() -> None:
    """Measure what the arguments say."""
    capture, synchronous, commits, bulk, folder = sys.argv[1:]
    if capture == "continuum":
        from sqlalchemy_continuum import make_versioned

        make_versioned(user_cls=None)
    place = Path(folder)
    plain = in_file(place / "plain.db", synchronous, versioned=False, captured=False)
    other = in_file(
        place / "other.db",
        synchronous,
        versioned=capture == "continuum",
        captured=capture == "bequest",
    )
    taken: dict[str, list[float]] = {"plain": [], "other": [], "plain_bulk": [], "other_bulk": []}
    for number in range(int(commits)):
        first, second = (plain, other) if number % 2 else (other, plain)
        one, two = first.commit_one(number), second.commit_one(number)
        taken["plain"].append(one if first is plain else two)
        taken["other"].append(two if first is plain else one)
    if int(bulk):
        for number in range(4):
            order = (plain, other) if number % 2 else (other, plain)
            for each in order:
                name = "plain_bulk" if each is plain else "other_bulk"
                taken[name].append(each.commit_many(int(bulk)))
    for each in (plain, other):
        each.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
