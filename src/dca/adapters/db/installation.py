"""The number of the installation, which is part of every key placed from a database."""

import re

from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from dca.adapters.db.migrate import connected, translated
from dca.adapters.db.tables import install, orders
from dca.adapters.db.target import parse
from dca.domain.errors import ConfigError

NONCE = re.compile(r"[0-9a-f]{8}")


def carry_on(url: str, nonce: str) -> None:
    """The database goes on as the installation `nonce`, whose keys the venue knows.

    Raises ConfigError when it has journaled an order under another number, StoreUnavailable.
    """
    if not NONCE.fullmatch(nonce):
        raise ConfigError(f"{nonce} is no installation: eight hex digits, as in the keys of its orders")
    target = parse(url)
    try:
        with connected(target, create=True) as connection:
            present = connection.execute(select(install.c.nonce)).scalar()
            if connection.execute(select(func.count()).select_from(orders)).scalar() and present != nonce:
                raise ConfigError(f"{target} has orders of the installation {present}: it stays that one")
            connection.execute(update(install).where(install.c.id == 1).values(nonce=nonce))
            connection.commit()
    except DBAPIError as error:
        raise translated(target, error) from error
