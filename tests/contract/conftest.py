"""Every implementation of the store, each on fresh data."""

from collections.abc import Iterator

import pytest

from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.ports import Store


@pytest.fixture(params=["memory", "sqlite", "mariadb"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One of the stores that must behave alike."""
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = SqlStore(request.getfixturevalue(f"{request.param}_url"))
    yield store
    store.close()
