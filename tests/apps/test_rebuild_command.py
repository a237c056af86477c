"""`dca rebuild` at a real exchange: whose orders count, and when it refuses."""

from dataclasses import replace

import pytest
from apps.bot import BTC, RULES, Bot

from dca.domain.order import Intent, Purpose, Side, order_key
from dca.domain.record import Lease
from dca.service import assets

REBUILD = ("rebuild", "--from", "venue")


def by_hand(bot: Bot, key: str) -> None:
    """An order under any key, far below the market."""
    wish = Intent(
        key=key, symbol=BTC, side=Side.BUY, purpose=Purpose.BASE, step=0,
        qty=RULES.base_order_amount / 10_000, limit=RULES.base_order_amount * 100, cycle_id=0,
        reason="a test wants it",
    )  # fmt: skip
    bot.desk.broker.submit(wish)


@pytest.fixture
def fresh(bot: Bot) -> Bot:
    """A database that has its asset and nothing else."""
    bot.add()
    bot.price("20000")
    return bot


def test_an_order_of_the_lost_installation_comes_back_under_its_own_number(fresh: Bot) -> None:
    key = order_key("0badcafe", 7, Purpose.BASE, 0, 1)
    by_hand(fresh, key)
    code, out, _ = fresh.dca(*REBUILD, "--dry-run")
    assert code == 1 and f"order {key}: row: missing here" in out
    code, _, said = fresh.dca(*REBUILD)
    assert code == 78 and "--yes" in said
    fresh.store.close()
    code, out, said = fresh.dca(*REBUILD, "--yes")
    assert (code, out.count("no differences")) == (0, 1), out + said
    code, out, _ = fresh.dca(*REBUILD, "--dry-run", "--install", "0badcafe")
    assert (code, "no differences" in out) == (0, True)
    code, _, said = fresh.dca(*REBUILD, "--dry-run", "--install", "12345678")
    assert code == 78 and "has orders of the installation 0badcafe" in said


def test_of_several_installations_one_must_be_named(fresh: Bot) -> None:
    for install in ("0badcafe", "deadbeef"):
        by_hand(fresh, order_key(install, 7, Purpose.BASE, 0, 1))
    code, _, said = fresh.dca(*REBUILD, "--dry-run")
    assert code == 78 and "0badcafe (1 orders)" in said and "deadbeef (1 orders)" in said
    code, out, _ = fresh.dca(*REBUILD, "--dry-run", "--install", "deadbeef")
    assert code == 1 and "0badcafe" not in out


def test_an_account_without_orders_of_ours_needs_nothing(fresh: Bot) -> None:
    by_hand(fresh, "by-hand")
    code, out, _ = fresh.dca(*REBUILD, "--yes")
    assert code == 0 and "orders of 0 cycles" in out


def test_rules_cannot_come_from_the_venue(fresh: Bot) -> None:
    by_hand(fresh, order_key(fresh.store.install, 7, Purpose.BASE, 0, 1))
    asset = fresh.store.read(lambda tx: assets.named(tx, BTC))
    fresh.store.write(lambda tx: tx.remove_asset(asset))
    code, _, said = fresh.dca(*REBUILD, "--yes")
    assert code == 78 and "dca asset add" in said


def test_not_while_a_streamer_trades_the_account(fresh: Bot) -> None:
    by_hand(fresh, order_key(fresh.store.install, 7, Purpose.BASE, 0, 1))
    clock = fresh.desk.clock
    held = Lease(
        name=f"streamer:{fresh.desk.broker.account().id}", holder="another-host/1/1",
        expires_at=clock.now() + clock.span(60), version=0,
    )  # fmt: skip
    held = fresh.store.write(lambda tx: tx.put_lease(held))
    code, _, said = fresh.dca(*REBUILD, "--yes")
    assert code == 78 and "is run by another-host/1/1" in said and "dca stop" in said
    assert fresh.store.read(lambda tx: tx.orders()) == []
    fresh.store.write(lambda tx: tx.drop_lease(replace(held)))
    assert fresh.dca(*REBUILD, "--yes")[0] == 0
    assert len(fresh.store.read(lambda tx: tx.orders())) == 1
