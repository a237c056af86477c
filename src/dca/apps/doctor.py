"""`dca doctor`: everything that must be right before and while the bot trades, one finding each."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.db import durability, migrate
from dca.adapters.db.tables import REVISION
from dca.adapters.process import root_complaint
from dca.apps import ladders, ledger, listening
from dca.apps.commands.cron import SCHEDULE
from dca.apps.findings import Finding, Findings, Level, fail, ok, warn
from dca.apps.status import PERIOD_S, SILENT_S, is_late, streamer
from dca.apps.words import lasting
from dca.domain.errors import ConfigError, StoreError, Unauthorized, VenueError
from dca.domain.money import plain
from dca.domain.record import Heartbeat
from dca.ports import MAINTENANCE, Account, Broker, Clock, Store
from dca.service.caretakers.runner import Result, heartbeat_name
from dca.settings import Settings

Json = dict[str, Any]
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 10.0
SPACE_WARN, SPACE_FAIL = 1_000_000_000, 100_000_000


@dataclass
class Doctor:
    """Looks at one thing after the other. What one look finds, the next may use.

    `settings` may leave complaints about the venue; then it is not asked.
    """

    settings: Settings
    streams: bool = True
    notify: bool = False
    store: Store | None = None
    venue: Broker | None = None
    account: Account | None = None
    beats: list[Heartbeat] = field(default_factory=list)

    def findings(self) -> Findings:
        """One after the other, as they come. What is left open at the end is closed."""
        looks: list[tuple[str, Callable[[], Findings]]] = [
            ("settings", self._settings),
            ("user", self._user),
            ("database", self._database),
            ("switches", self._switches),
            ("venue", self._account),
            ("clock", self._clock),
            ("assets", self._assets),
            ("streamer", self._streamer),
            ("caretakers", self._caretakers),
            ("statement", self._statement),
            ("notifications", self._notifications),
            ("disk", self._disk),
        ]
        with contextlib.ExitStack() as stack:
            if not self.settings.venue_complaints:
                venue = wiring.broker(self.settings)
                stack.callback(venue.close)
                self.venue = venue
            for subject, look in looks:
                yield from _guarded(subject, look)
                if subject == "database" and self.store is not None:
                    stack.callback(self.store.close)

    @property
    def _time(self) -> Clock:
        return wiring.clock(self.settings)

    def _settings(self) -> Findings:
        for complaint in self.settings.venue_complaints:
            yield fail("settings", complaint, f"write it into {self.settings.env_file}; see .env.example")
        readable = env.env_file_complaint(self.settings.env_file)
        if readable is not None:
            seen, _, command = readable.partition(": ")
            yield warn("settings", seen, command)
        if not self.settings.venue_complaints and readable is None:
            yield ok("settings", f"complete; logs and pid file in {self.settings.run_dir}")

    def _user(self) -> Findings:
        rooted = root_complaint()
        if rooted is None:
            yield ok("user", "not root")
        else:
            seen, _, command = rooted.partition(": ")
            yield warn("user", seen, command)

    def _database(self) -> Findings:
        url = self.settings.database_url
        found = migrate.current(url)
        if found != REVISION:
            seen = "there is no database yet" if found is None else f"schema {found}, not {REVISION}"
            yield fail("database", seen, "dca db upgrade")
            return
        self.store = wiring.store(self.settings)
        self.beats = self.store.read(lambda tx: tx.heartbeats())
        forgetful = durability.complaint(url)
        if forgetful is None:
            yield ok("database", f"reachable, schema {found}, every commit is on the disk")
        else:
            seen, _, command = forgetful.partition(": ")
            yield warn("database", f"reachable, schema {found}; {seen}", command)

    def _switches(self) -> Findings:
        if self.store is None:
            return
        found = wiring.switches(self.settings, self.store)
        if "halted" in found:
            yield fail("switches", f"trading is halted: {found['halted']}", "dca resume")
        if "paused" in found:
            yield warn("switches", f"trading is paused: {found['paused']}", "dca resume")
        if MAINTENANCE in found:
            yield warn("switches", f"the watchdog is quiet: {found[MAINTENANCE]}", "dca maintenance off")
        if not found:
            yield ok("switches", "trading is neither halted nor paused")

    def _account(self) -> Findings:
        if self.venue is None:
            return
        kind = "LIVE, real money" if env.is_live(self.settings.base_url) else "paper"
        self.account = account = self.venue.account()
        if account.blocked:
            yield fail("venue", f"account {account.id} ({kind}) is blocked", "ask Alpaca why")
            return
        yield ok("venue", f"account {account.id} ({kind}), {account.spendable:.2f} USD to spend on crypto")

    def _clock(self) -> Findings:
        if self.venue is None:
            return
        if self.settings.clock.origin is not None:
            yield ok("clock", "runs on its own time, so it is not compared")
            return
        before = self._time.now()
        theirs = self.venue.time()
        yield _skew(theirs, before, self._time.now())

    def _assets(self) -> Findings:
        if self.store is None or self.venue is None:
            return
        yield from ladders.check(self.settings, self.store, self.venue, self.account, self._time.now())

    def _streamer(self) -> Findings:
        found = streamer(self.beats, self._time.now(), self._time.span(SILENT_S))
        if found["state"] == "silent":
            seen = f"process {found['pid']} on {found['host']} is silent for {lasting(found['age_s'])}"
            yield fail("streamer", seen, "dca restart")
        elif found["state"] != "running":
            yield warn("streamer", "is not running", "dca start")
        if found["state"] == "running":
            yield from _links(found)
        elif self.streams and not self.settings.venue_complaints:
            yield from self._listened()

    def _listened(self) -> Findings:
        """Both streams, tried from here; a running streamer's would be pushed off the venue by this."""
        symbols = ["BTC/USD"]
        if self.store is not None:
            enabled = [asset for asset in self.store.read(lambda tx: tx.assets()) if asset.is_enabled]
            symbols = [asset.asset_symbol for asset in enabled] or symbols
        heard = listening.listen(self.settings, symbols)
        for name, stream in (("market stream", heard.market), ("trade stream", heard.trades)):
            if stream.error is not None:
                yield fail(name, stream.error, "check the keys, APCA_API_*_URL and the network, then again")
        if heard.trades.error is None:
            yield ok("trade stream", "authenticated and listening")
        if heard.market.error is None and heard.quote is None:
            seen = f"subscribed, but no quote within {listening.LISTEN_S:g} s"
            yield warn("market stream", seen, "try again: a quiet market, or the venue sends nothing")
        elif heard.quote is not None:
            quote = heard.quote
            yield ok("market stream", f"{quote.symbol}: bid {plain(quote.bid)}, ask {plain(quote.ask)}")

    def _caretakers(self) -> Findings:
        if self.store is None:
            return
        beats = {beat.name: beat for beat in self.beats}
        known = {name: beats.get(heartbeat_name(name)) for name in SCHEDULE}
        if not any(known.values()):
            yield fail("caretakers", "none has ever run", "dca cron install")
            return
        found = [self._caretaker(name, beat) for name, beat in known.items()]
        if all(one.level is Level.OK for one in found):
            yield ok("caretakers", f"all {len(found)} ran in time")
            return
        yield from (one for one in found if one.level is not Level.OK)

    def _caretaker(self, name: str, beat: Heartbeat | None) -> Finding:
        if beat is None:
            return fail("caretakers", f"{name} has never run", "dca cron install")
        if is_late(name, beat, self._time):
            age = lasting((self._time.now() - beat.at).total_seconds())
            seen = f"{name} ran {age} ago, not every {lasting(PERIOD_S[SCHEDULE[name]])}"
            return fail("caretakers", seen, "dca cron install; then look whether cron runs at all")
        if beat.detail.get("result") != Result.DONE:
            seen = f"{name} ran, but ended {beat.detail.get('result')}: {beat.detail.get('detail') or '-'}"
            return warn("caretakers", seen, f"python scripts/{name}.py --dry-run")
        return ok("caretakers", name)

    def _statement(self) -> Findings:
        if self.store is not None:
            yield from ledger.check(self.store, self._time.now())

    def _notifications(self) -> Findings:
        count = len(self.settings.notify.urls)
        if not count:
            yield warn("notifications", "nobody is told anything", "set NOTIFY_URLS; see .env.example")
            return
        if not self.notify:
            yield ok("notifications", f"{count} addresses (dca doctor --notify sends a test message)")
            return
        wiring.notifier(self.settings).send("dca", "a test message from dca doctor")
        yield ok("notifications", f"a test message went to {count} addresses")

    def _disk(self) -> Findings:
        folder = self.settings.run_dir.absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        seen = f"{free / 1e9:.1f} GB free for {folder}"
        if free < SPACE_FAIL:
            yield fail("disk", seen, "make room: without it nothing can be journaled, so nothing is traded")
        elif free < SPACE_WARN:
            yield warn("disk", seen, "make room soon")
        else:
            yield ok("disk", seen)


def _guarded(subject: str, look: Callable[[], Findings]) -> Findings:
    """The findings of `look`; an error that ends it is one, too."""
    try:
        yield from look()
    except Unauthorized as error:
        do = "make new keys at Alpaca and put them into .env: APCA_API_KEY_ID and APCA_API_SECRET_KEY"
        yield fail(subject, f"the venue refused the keys: {error}", do)
    except VenueError as error:
        do = "check the network and APCA_API_*_URL, then again"
        yield fail(subject, str(error), "check NOTIFY_URLS" if subject == "notifications" else do)
    except StoreError as error:
        yield fail(subject, str(error), "start the database, or correct DATABASE_URL")
    except ConfigError as error:
        yield fail(subject, str(error), "do as it says, then again")


def _skew(theirs: datetime, before: datetime, after: datetime) -> Finding:
    """How far this machine's clock is off, less what the question may have taken on its way."""
    middle, doubt = before + (after - before) / 2, (after - before).total_seconds() / 2
    off = (theirs - middle).total_seconds()
    sure = max(abs(off) - doubt, 0.0)
    where = "behind" if off > 0 else "ahead of"
    seen = f"{abs(off):.1f} s {where} the venue's, give or take {doubt:.1f} s"
    do = "switch on time synchronization: timedatectl set-ntp true"
    if sure > SKEW_FAIL_S:
        return fail("clock", seen, do)
    return warn("clock", seen, do) if sure > SKEW_WARN_S else ok("clock", seen)


def _links(found: Json) -> Findings:
    """The streams as the running streamer has them."""
    down = [name for name, state in found["links"].items() if state != "up"]
    if down:
        do = "wait a minute, then again; see the main log for what the venue says"
        yield fail("streamer", f"runs, but its {' and '.join(down)} stream is down", do)
    if found.get("entries_blocked"):
        yield warn("streamer", f"buys nothing: {found['entries_blocked']}", "wait a minute, then again")
    if not down and not found.get("entries_blocked"):
        yield ok("streamer", f"process {found['pid']} on {found['host']} runs, both streams are up")
