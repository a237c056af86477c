"""An offline exchange that speaks Alpaca's REST and WebSocket protocols.

It is a second, independent reading of the protocol: of our code it knows only `domain` and
`matching`, never the adapter that talks to it.
"""
