"""Faults as they are written: tables of a TOML file, bodies of requests to `/control/faults`."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from dca.domain.errors import ConfigError
from dca.paper.config import Switches
from dca.paper.effects import (
    EVENTS,
    PARAMETERS,
    QUOTED,
    REQUESTS,
    Effect,
    Kind,
    Place,
    effect_of,
    in_seconds,
    kind_of,
    positive,
    whole,
)
from dca.paper.faults import STREAMS, Chooser, Fault, Matcher
from dca.paper.refusals import Refusal, bad_body
from dca.paper.wire import Json

METHODS = ("*", "GET", "POST", "PATCH", "DELETE")
WORDS = ("connect", "auth", "listen", "subscribe")
OK = "ok"
"""In a script: this one is left alone."""


def read_file(path: Path) -> tuple[tuple[Fault, ...], Switches]:
    """What a TOML file says: a table `[[fault]]` for each fault, one `[switches]`. Raises ConfigError."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable file of faults: {error}") from error
    tables, switches = content.pop("fault", []), content.pop("switches", {})
    if content or not isinstance(tables, list) or not isinstance(switches, dict):
        names = ", ".join(content) or "fault, switches"
        raise ConfigError(f"{path}: {names}: it has one table [[fault]] for each fault, and one [switches]")
    faults = tuple(_from_file(path, place, table) for place, table in enumerate(tables, start=1))
    return faults, _switches(path, switches)


def _switches(path: Path, table: Json) -> Switches:
    usual = {item.name: getattr(Switches(rate_limit=200), item.name) for item in fields(Switches)}
    for name, value in table.items():
        if name not in usual:
            raise ConfigError(f"{path}: unknown switch {name}; known are {', '.join(usual)}")
        kind = type(usual[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ConfigError(f"{path}: switch {name} must be like {usual[name]!r}, not {value!r}")
    try:
        return replace(Switches(), **table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _from_file(path: Path, place: int, table: Any) -> Fault:
    try:
        return fault_of(table if isinstance(table, dict) else {})
    except Refusal as refusal:
        raise ConfigError(f"{path}: fault {place}: {refusal.body['message']}") from refusal


def fault_of(table: Mapping[str, Any]) -> Fault:
    """The fault that a table of the file, or a request to `/control/faults`, spells. Raises Refusal."""
    streaming = "stream" in table
    for name in table:
        if name not in (*_ABOUT[streaming], *CHOSEN, *PARAMETERS, "effect", "script"):
            raise bad_body(f"unknown field {name}")
    if ("effect" in table) == ("script" in table) or not {"path", "stream"} & set(table):
        raise bad_body("a fault needs path or stream, and either effect or script")
    if table.get("symbol") is not None and not isinstance(table["symbol"], str):
        raise bad_body("symbol must be a text")
    effects = _effects(table, EVENTS if streaming else REQUESTS)
    place = _place(effects, EVENTS if streaming else REQUESTS)
    said = json.loads(json.dumps(dict(table), default=float))
    quoted = any(one is not None and one.name in QUOTED for one in effects)
    matcher = _matcher(table, place, "quotes" if quoted else "*")
    return Fault(said | _named(effects, table), place, matcher, _chooser(table), effects, "script" in table)


_ABOUT = {
    True: ("stream", "event", "symbol", "client_order_id"),
    False: ("method", "path", "symbol", "client_order_id"),
}
CHOSEN = ("after", "times", "probability", "lasts", "seed")


def _named(effects: tuple[Effect | None, ...], table: Mapping[str, Any]) -> Json:
    return {} if "script" in table or effects[0] is None else {"effect": effects[0].name}


def _effects(table: Mapping[str, Any], kinds: Mapping[str, Kind]) -> tuple[Effect | None, ...]:
    """The one effect, or those of the script. The table's parameters are those of all that take them."""
    script = table.get("script", [table.get("effect")])
    if not isinstance(script, list) or not script:
        raise bad_body("script must be a list of effects")
    common = {name: value for name, value in table.items() if name in PARAMETERS}
    steps = [step if isinstance(step, Mapping) else {"effect": step} for step in script]
    kinds_used = [kind_of(step.get("effect"), kinds) for step in steps if step.get("effect") != OK]
    for name in common:
        if not any(name in kind.takes for kind in kinds_used):
            raise bad_body(
                f"{name} means nothing to {' or '.join(str(step.get('effect')) for step in steps)}"
            )
    return tuple(_effect(step, common, kinds, table.get("symbol")) for step in steps)


def _effect(
    step: Mapping[str, Any], common: Json, kinds: Mapping[str, Kind], symbol: str | None
) -> Effect | None:
    if step["effect"] == OK:
        return None
    own = {name: value for name, value in step.items() if name != "effect"}
    kind = kind_of(step["effect"], kinds)
    inherited = {name: value for name, value in common.items() if name in kind.takes}
    return effect_of(str(step["effect"]), kind, inherited | own, symbol)


def _place(effects: Iterable[Effect | None], kinds: Mapping[str, Kind]) -> Place:
    places = {kinds[effect.name].place for effect in effects if effect is not None}
    if len(places) != 1:
        raise bad_body("the effects of a script must happen in one place, and one of them at least must")
    return places.pop()


def _matcher(table: Mapping[str, Any], place: Place, usual_event: str) -> Matcher:
    key, symbol = table.get("client_order_id"), table.get("symbol")
    allowed: tuple[str, ...] = METHODS
    if "stream" in table:
        source, name, allowed = table["stream"], table.get("event", usual_event), STREAMS
        if source == "trades" and usual_event == "quotes":
            raise bad_body("there are no quotes in stream trades")
        if place is Place.FRAME and "event" in table:
            raise bad_body("a whole frame has no event")
        if place is Place.WORD and name not in ("*", *WORDS):
            raise bad_body(f"event must be one of {', '.join(WORDS)}")
    else:
        source, name = table.get("method", "*"), table["path"]
    if source not in allowed:
        raise bad_body(f"{'stream' if 'stream' in table else 'method'} must be one of {', '.join(allowed)}")
    if not isinstance(name, str) or not isinstance(key, str | None):
        raise bad_body("path, event and client_order_id must be texts")
    return Matcher(str(source), name, symbol, key)


def _chooser(table: Mapping[str, Any]) -> Chooser:
    if "script" in table and ("times" in table or "probability" in table):
        raise bad_body("a script says itself how often it strikes: neither times nor probability")
    _optional(whole, table, "seed", None)
    probability = _optional(positive, table, "probability", Decimal(1))
    if probability > 1:
        raise bad_body("probability must be from 0 to 1")
    return Chooser(
        after=_optional(whole, table, "after", 0),
        times=_optional(whole, table, "times", None),
        probability=float(probability),
        lasts=_optional(in_seconds, table, "lasts", None),
    )


def _optional(read: Callable[[str, Any], Any], table: Mapping[str, Any], name: str, default: Any) -> Any:
    value = table.get(name)
    return default if value is None else read(name, value)
