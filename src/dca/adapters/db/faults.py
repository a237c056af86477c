"""What an error of the database means for the unit of work that met it."""

import sqlite3
from enum import Enum, auto

from mysql.connector.errors import ConnectionTimeoutError, ReadTimeoutError, WriteTimeoutError
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError


class Fault(Enum):
    AGAIN = auto()
    """Nothing was kept, or it is not known: do the whole unit again."""
    GONE = auto()
    """As AGAIN, but on another connection: this one is dead or in an unknown state."""
    SILENT = auto()
    """The server let the time for an answer pass. Asking it again would only double the wait."""
    REFUSED = auto()
    """The server does not let us in: a person must mend the URL."""
    READ_ONLY = auto()
    """The database takes no writes."""
    BROKEN = auto()
    """The statement is wrong for this schema, or the data for its column: trying again is no use."""


_SQLITE = {
    sqlite3.SQLITE_BUSY: Fault.AGAIN,
    sqlite3.SQLITE_LOCKED: Fault.AGAIN,
    sqlite3.SQLITE_FULL: Fault.AGAIN,
    sqlite3.SQLITE_IOERR: Fault.GONE,
    sqlite3.SQLITE_CANTOPEN: Fault.GONE,
    sqlite3.SQLITE_PROTOCOL: Fault.GONE,
    sqlite3.SQLITE_NOMEM: Fault.GONE,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
}

_MYSQL = {
    # Deadlock, lock wait timeout (which undoes the statement only: the rest must not be committed),
    # record changed since the snapshot.
    **dict.fromkeys((1213, 1205, 1020), Fault.AGAIN),
    # Disk or table full, cannot write, out of memory, too many connections, statement interrupted.
    **dict.fromkeys((1021, 1114, 1026, 1030, 1037, 1038, 1040, 1041, 1203, 1317, 1969), Fault.GONE),
    # Shutting down, network errors of the server, killed, idle too long.
    **dict.fromkeys((1053, 1077, 1079, 1158, 1159, 1160, 1161, 1184, 1927, 3024, 3169, 4031), Fault.GONE),
    # The client's own: not connected, gone away, lost, out of sync, bad handshake, malformed packet.
    **dict.fromkeys((2000, 2001, 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2026, 2027), Fault.GONE),
    **dict.fromkeys((2045, 2048, 2055), Fault.GONE),
    # A server that became a replica, or was set read-only.
    **dict.fromkeys((1290, 1792, 1836), Fault.READ_ONLY),
    # No such user or password, no right to the database, no such database.
    **dict.fromkeys((1044, 1045, 1049, 1130, 1251, 1698), Fault.REFUSED),
}
_NO_SPACE = "make room on the disk of the database"
_NOT_OURS = "let this user write the file and its folder"
_NOBODY_THERE = "start the database server, or look into its log"
_ADVICE = {
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_IOERR: "see whether its disk is full or damaged",
    sqlite3.SQLITE_READONLY: _NOT_OURS,
    sqlite3.SQLITE_CANTOPEN: _NOT_OURS,
    sqlite3.SQLITE_BUSY: "another program keeps it locked: end that one",
    **dict.fromkeys((1021, 1114), _NO_SPACE),
    **dict.fromkeys((1290, 1836), "the server is set read-only: make it writable"),
    **dict.fromkeys((2002, 2003), _NOBODY_THERE),
}
_TIMEOUTS = (ConnectionTimeoutError, ReadTimeoutError, WriteTimeoutError)
_MYSQL_DUPLICATE = frozenset({1062, 1586})
_SQLITE_DUPLICATE = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


def fault_of(error: DBAPIError) -> Fault:
    """What to do about `error`."""
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        # The low byte is the error, the rest its variety.
        return _SQLITE.get(getattr(origin, "sqlite_errorcode", 0) & 0xFF, Fault.BROKEN)
    if isinstance(origin, _TIMEOUTS):
        return Fault.SILENT
    number = getattr(origin, "errno", None)
    # The driver gives no number to some of the ways in which it finds its connection closed.
    unnumbered = number in (None, -1) and isinstance(error, OperationalError | InterfaceError)
    if error.connection_invalidated or unnumbered:
        return Fault.GONE
    return _MYSQL.get(number or 0, Fault.BROKEN)


def is_duplicate(error: IntegrityError) -> bool:
    """Whether a unique constraint was in the way, and not a foreign key or a NULL.

    Both databases undo the failed statement alone, so the transaction can go on.
    """
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        return origin.sqlite_errorcode in _SQLITE_DUPLICATE
    return getattr(origin, "errno", None) in _MYSQL_DUPLICATE


def said(error: DBAPIError) -> str:
    """What the database said, without the statement and its values, and what a person can do."""
    origin = error.orig
    number = getattr(origin, "sqlite_errorcode", 0) & 0xFF or getattr(origin, "errno", None)
    advice = _ADVICE.get(number or 0)
    return f"{type(origin).__name__}: {origin}" + (f"; {advice}" if advice else "")
