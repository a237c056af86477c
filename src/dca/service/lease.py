"""One instance at a time: a lease in the database that its holder keeps renewing."""

from collections.abc import Callable

from dca.domain.errors import DcaError, StaleWrite
from dca.domain.record import Heartbeat, Lease
from dca.ports import Clock, Store, Tx

TTL_S = 15.0
Alive = Callable[[str], bool]
"""Whether a holder may still be running."""


class LeaseTaken(DcaError):
    """Somebody else holds the lease: do not start, or stop."""


class Holding:
    """A lease that is held until it is dropped, or until another holder is found in its place."""

    def __init__(self, store: Store, clock: Clock, lease: Lease, ttl_s: float = TTL_S) -> None:
        self._ttl_s = ttl_s
        self._store = store
        self._clock = clock
        self._lease = lease

    def renew(self, beat: Heartbeat) -> None:
        """The lease runs for another `ttl_s` of real time, and its holder's heart has beaten.

        Raises LeaseTaken when the lease is lost; then nothing is written.
        """
        lease = self._lease
        renewed = Lease(
            name=lease.name,
            holder=lease.holder,
            expires_at=self._clock.now() + self._clock.span(self._ttl_s),
            version=lease.version,
        )
        try:
            self._lease = self._store.write(lambda tx: _renewed(tx, renewed, beat))
        except StaleWrite as error:
            raise LeaseTaken(f"another instance took over {lease.name}") from error

    def drop(self) -> None:
        """Nobody has to wait for the lease to run out."""
        self._store.write(lambda tx: tx.drop_lease(self._lease))


def _renewed(tx: Tx, lease: Lease, beat: Heartbeat) -> Lease:
    tx.beat(beat)
    return tx.put_lease(lease)


def take(
    store: Store, clock: Clock, name: str, holder: str, alive: Alive, *, ttl_s: float = TTL_S
) -> Holding:
    """The lease is ours. Raises LeaseTaken while another holder's has not run out.

    `alive` says of a holder whether it may still be running; the lease of one that is known to be
    dead is taken over at once, so that a restart after a crash does not wait.
    """
    current = store.read(lambda tx: tx.lease(name))
    now = clock.now()
    if current is not None and current.expires_at > now and alive(current.holder):
        raise LeaseTaken(f"{name} is run by {current.holder} already")
    wanted = Lease(
        name=name,
        holder=holder,
        expires_at=now + clock.span(ttl_s),
        version=0 if current is None else current.version,
    )
    try:
        return Holding(store, clock, store.write(lambda tx: tx.put_lease(wanted)), ttl_s)
    except StaleWrite as error:
        raise LeaseTaken(f"another instance took {name} first") from error
