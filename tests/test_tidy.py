"""The house rules that a machine can check, read from the syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
CODE = sorted(path for path in SRC.rglob("*.py") if "egg-info" not in str(path))

PURE = {"domain", "strategy", "risk", "matching"}
HARMLESS = {
    "bisect", "collections", "dataclasses", "datetime", "decimal", "enum", "functools", "heapq",
    "itertools", "math", "operator", "re", "typing",
}  # fmt: skip
# Who may import whom; a layer always may import itself.
ALLOWED = {
    "domain": set(),
    "strategy": {"domain"},
    "risk": {"domain"},
    "matching": {"domain"},
    "ports": {"domain"},
    "service": {"domain", "strategy", "risk", "ports"},
    "adapters": {"domain", "matching", "ports", "logs", "boundaries"},
    "paper": {"domain", "matching"},
    "prove": {
        "domain",
        "strategy",
        "risk",
        "ports",
        "service",
        "adapters",
        "settings",
        "wiring",
        "boundaries",
        "paper",
        "apps",
    },
    "boundaries": set(),
    "logs": set(),
    "settings": {"domain"},
    "wiring": {
        "domain",
        "strategy",
        "risk",
        "ports",
        "service",
        "adapters",
        "settings",
        "logs",
        "boundaries",
    },
    "apps": {
        "domain",
        "strategy",
        "risk",
        "ports",
        "service",
        "adapters",
        "settings",
        "logs",
        "wiring",
        "paper",
        "prove",
    },
    "main_app": {"domain", "service", "adapters", "settings", "wiring"},
}
LONGEST_FUNCTION = 70
CLOCK = SRC / "dca/adapters/clock.py"


def layer_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[1] if parts[0] == "dca" and len(parts) > 1 else parts[0]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "dca" else [node.module]


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


every_file = pytest.mark.parametrize("path", CODE, ids=name_of)


@every_file
def test_imports_point_inward(path: Path) -> None:
    layer = layer_of(path)
    if layer in ("__init__", "data"):
        return
    for module in imported(path):
        parts = module.split(".")
        if parts[0] != "dca" or len(parts) == 1:
            continue
        other = parts[1]
        assert other == layer or other in ALLOWED[layer], f"{layer} may not import {module}"


@every_file
def test_pure_layers_import_only_harmless_modules(path: Path) -> None:
    if layer_of(path) not in PURE:
        return
    for module in imported(path):
        root = module.split(".")[0]
        assert root == "dca" or root in HARMLESS, f"pure code imports {module}"


@every_file
def test_the_paper_exchange_reads_the_protocol_for_itself(path: Path) -> None:
    if layer_of(path) == "paper":
        assert not any(module.startswith(("dca.ports", "dca.adapters")) for module in imported(path))


@every_file
def test_only_the_pipeline_submits_and_cancels(path: Path) -> None:
    if path == SRC / "dca/service/pipeline.py":
        return
    for call in calls(path):
        owner, _, verb = dotted(call.func).rpartition(".")
        sends = verb in ("submit", "cancel") and owner.split(".")[-1].strip("_") in ("broker", "venue")
        assert not sends, f"line {call.lineno}: {owner}.{verb}"


@every_file
def test_only_the_review_approves(path: Path) -> None:
    if path != SRC / "dca/risk/review.py":
        assert not any(dotted(call.func).split(".")[-1] == "Approved" for call in calls(path))


@every_file
def test_only_the_recorder_and_the_cycles_write_cycles(path: Path) -> None:
    owners = {SRC / "dca/service/recorder.py", SRC / "dca/service/cycles.py"}
    if layer_of(path) == "service" and path not in owners:
        assert not any(dotted(call.func).endswith(".update_cycle") for call in calls(path))


@every_file
def test_only_the_clock_asks_the_time(path: Path) -> None:
    if path == CLOCK:
        return
    asks = {
        "time.time", "time.monotonic", "time.perf_counter", "time.sleep", "datetime.now", "datetime.utcnow",
        "date.today", "datetime.datetime.now",
    }  # fmt: skip
    for call in calls(path):
        assert dotted(call.func) not in asks, f"line {call.lineno}: {dotted(call.func)}"


@every_file
def test_chance_and_the_network_stay_outside(path: Path) -> None:
    if layer_of(path) in ("adapters", "paper", "prove", "apps"):
        return
    banned = {"random", "secrets", "uuid", "requests", "socket", "http", "urllib.request", "subprocess"}
    for module in imported(path):
        assert module not in banned and module.split(".")[0] not in banned, f"{module} belongs to an adapter"


@every_file
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if path == SRC / "dca/settings.py":
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            assert dotted(node) not in ("os.environ", "os.getenv", "environ"), f"line {node.lineno}"


@every_file
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@every_file
def test_no_error_is_caught_blindly(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = dotted(node.type) if node.type is not None else ""
            caught = "tuple" if isinstance(node.type, ast.Tuple) else caught
            passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            assert passed_on or caught not in ("", "Exception", "BaseException"), f"line {node.lineno}"


def test_what_is_started_by_hand_or_cron_is_thin() -> None:
    assert len((SRC / "main_app.py").read_text().splitlines()) < 60
    for script in (ROOT / "scripts").glob("*.py"):
        assert len(script.read_text().splitlines()) < 20, script.name
