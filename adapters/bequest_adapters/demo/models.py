"""A small controller's configuration, and its work: one transaction after the other.

Invariant: transaction number N does the same on every database that has seen 1 to N-1, and nothing
else, so that anyone can compute what a database must hold. Hence no clock and no chance in here.
"""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy import ForeignKey, LargeBinary, String, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

SITES: Final = 12
KEY_BYTES: Final = 32


class Base(DeclarativeBase):
    """The controller's tables."""


class Site(Base):
    """A place with devices."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    devices: Mapped[int] = mapped_column(default=0)


class Device(Base):
    """A gateway at a site."""

    __tablename__ = "device"
    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    name: Mapped[str] = mapped_column(String(60), index=True)
    address: Mapped[str] = mapped_column(String(45))
    enabled: Mapped[bool] = mapped_column(default=True)


class Tunnel(Base):
    """An encrypted connection between two devices."""

    __tablename__ = "tunnel"
    id: Mapped[int] = mapped_column(primary_key=True)
    left_id: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    right_id: Mapped[int] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    key: Mapped[bytes] = mapped_column(LargeBinary)
    cost: Mapped[float] = mapped_column(default=1.0)


class User(Base):
    """Someone who may log in."""

    __tablename__ = "user"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    logins: Mapped[int] = mapped_column(default=0)


class Policy(Base):
    """Who may talk to whom."""

    __tablename__ = "policy"
    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    rule: Mapped[str]
    position: Mapped[int]


class Change(Base):
    """The controller's own audit: one row per transaction, by which each can be found again."""

    __tablename__ = "change"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    what: Mapped[str] = mapped_column(String(80))


def work(session: Session, number: int) -> str:
    """Do transaction ``number`` (from 1 on) in ``session`` without committing; says what it was."""
    what = _ACTIONS[number % len(_ACTIONS)](session, number) if number > SITES else ""
    what = what or _add_site(session, number)
    session.add(Change(number=number, what=what))
    return what


def last_number(session: Session) -> int:
    """The number of the last transaction that this database has seen, 0 when none."""
    return session.scalar(select(func.max(Change.number))) or 0


def _add_site(session: Session, number: int) -> str:
    session.add(Site(name=f"Site {number:04}"))
    return f"site {number} added"


def _add_device(session: Session, number: int) -> str:
    site = session.get_one(Site, number % SITES + 1)
    site.devices += 1
    address = f"10.{number >> 8 & 255}.{number & 255}.1"
    session.add(Device(site_id=site.id, name=f"gateway-{number}", address=address))
    return f"device added at {site.name}"


def _add_tunnel(session: Session, number: int) -> str:
    newest = list(session.scalars(select(Device.id).order_by(Device.id.desc()).limit(2)))
    if len(newest) < 2:
        return ""
    key = hashlib.blake2b(str(number).encode(), digest_size=KEY_BYTES).digest()
    session.add(Tunnel(left_id=newest[0], right_id=newest[1], key=key, cost=number / 7))
    return "tunnel added"


def _add_policy(session: Session, number: int) -> str:
    site_id = number % SITES + 1
    position = session.scalar(select(func.count()).where(Policy.site_id == site_id)) or 0
    session.add(Policy(site_id=site_id, rule=f"allow tcp/{number} → ünïcode", position=position))
    return f"policy added at site {site_id}"


def _log_in(session: Session, number: int) -> str:
    """A bulk statement that no ORM event sees row by row, in raw SQL."""
    session.execute(
        text(
            "INSERT INTO user (name, role, logins) VALUES (:name, 'operator', 1) "
            "ON CONFLICT (name) DO UPDATE SET logins = logins + 1"
        ),
        {"name": f"user-{number % 30}"},
    )
    return f"login of user-{number % 30}"


def _switch_devices(session: Session, number: int) -> str:
    session.execute(
        text("UPDATE device SET enabled = NOT enabled WHERE site_id = :site"),
        {"site": number % SITES + 1},
    )
    return f"devices of site {number % SITES + 1} switched"


def _drop_device(session: Session, number: int) -> str:
    """Cascades to its tunnels when the connection enforces foreign keys."""
    oldest = session.scalars(select(Device).order_by(Device.id).limit(1)).first()
    if oldest is None or number % 2:
        return ""
    session.execute(
        text("DELETE FROM tunnel WHERE left_id = :id OR right_id = :id"), {"id": oldest.id}
    )
    session.delete(oldest)
    return f"device {oldest.name} removed"


_ACTIONS: Final = (
    _add_device,
    _add_tunnel,
    _log_in,
    _add_policy,
    _add_device,
    _switch_devices,
    _log_in,
    _drop_device,
    _add_tunnel,
)
