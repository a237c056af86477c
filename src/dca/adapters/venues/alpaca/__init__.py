"""Alpaca: its REST side on alpaca-py, its two streams on clients of our own."""

from dca.adapters.venues.alpaca.market import AlpacaMarketFeed
from dca.adapters.venues.alpaca.rest import AlpacaBroker
from dca.adapters.venues.alpaca.trades import AlpacaTradeFeed

__all__ = ["AlpacaBroker", "AlpacaMarketFeed", "AlpacaTradeFeed"]
