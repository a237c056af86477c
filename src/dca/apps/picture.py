"""The picture of a crash sweep: where processes were killed, how often, and whether all recovered."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from dca.prove.crash import Line, Result

CELL_W, CELL_H = 34, 20
LETTER = 7.0
"""How wide a letter is, about; no font is the same everywhere."""
MARGIN, HEAD, LEGEND_H, GROUP_H = 24, 64, 50, 28
SLANT = 0.87
"""The sine of the angle by which names of columns are turned."""
PAPER, INK, FAINT, GRID = "#ffffff", "#1f2328", "#6e7781", "#d8dee4"
GREEN, ON_GREEN, RED, ON_RED, GRAY = "#a7e3b5", "#0b3d1c", "#cf222e", "#ffffff", "#eaeef2"
FONT = "font-family: ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
REQUESTS, COMMITS = "requests to the exchange", "commits to the database"
TITLE = "Processes killed at the boundaries of what they do"
NUMBER = "the number: kills just before and just after it, on all databases together"
KINDS = (
    (GREEN, ON_GREEN, "8", "all recovered"),
    (RED, ON_RED, "1/8", "something did not"),
    (GRAY, FAINT, "·", "crossed, not killed there in this run"),
    (PAPER, FAINT, "", "not crossed"),
)
"""What a cell can be: its colors, what stands in it, and what that means."""


@dataclass(slots=True)
class Cell:
    """What came of one effect in one purpose: kills by where and on what, and what did not recover."""

    kills: int = 0
    sides: Counter[str] = field(default_factory=Counter)
    databases: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    spared: int = 0
    slowest_s: float = 0.0

    def add(self, database: str, one: Result) -> None:
        if one.delivered:
            self.kills += 1
            self.sides[_side(one.point.boundary)] += 1
            self.databases[database] += 1
            self.slowest_s = max(self.slowest_s, one.took_s)
        if one.wrong or not one.delivered:
            words = one.wrong or "never delivered"
            self.bad.append(f"{database} {one.point.boundary}:{one.point.ordinal}: {words}")

    def words(self) -> str:
        """What the number stands for."""
        if not self.kills and not self.bad:
            return f"{self.spared:,} times crossed, not killed there in this run"
        parts = [
            f"{name} {times:,}" for counts in (self.sides, self.databases) for name, times in counts.items()
        ]
        told = f"{self.kills:,} kills ({', '.join(parts)})" if parts else "no kill"
        if self.bad:
            return "; ".join([told, f"{len(self.bad):,} not recovered", *self.bad])
        return f"{told}, all recovered, the slowest after {self.slowest_s:.1f} s"


Cells = dict[tuple[str, str], Cell]


def picture(lines: Sequence[Line], made: str) -> str:
    """An SVG of what the sweep came to; `made` says when and by what."""
    cells = _cells(lines)
    purposes = list(dict.fromkeys(line.script.name for line in lines))
    effects = sorted({effect for effect, _ in cells})
    left = MARGIN + max([len(REQUESTS), *(len(one) for one in effects)]) * LETTER + 12
    top = HEAD + LEGEND_H + max((len(one) for one in purposes), default=0) * LETTER * SLANT + 14
    grid = _Grid(cells, purposes, left, top)
    body = [*_columns(grid, lines), *_rows(grid, effects)]
    longest = len(max(purposes, key=len, default="")) * LETTER / 2
    legend = sum(_entry_width(meaning) for *_, meaning in KINDS)
    width = max(grid.right + CELL_W + 14 + longest, MARGIN + legend, MARGIN * 2 + len(made) * LETTER)
    height = grid.y + MARGIN
    return "\n".join([*_frame(width, height, cells), *_legend(made), *body, "</svg>"]) + "\n"


@dataclass(slots=True)
class _Grid:
    """Where things stand; `y` is where the next row begins."""

    cells: Cells
    purposes: list[str]
    left: float
    y: float

    @property
    def right(self) -> float:
        return self.left + len(self.purposes) * CELL_W

    def x(self, purpose: str) -> float:
        return self.left + self.purposes.index(purpose) * CELL_W


def _cells(lines: Sequence[Line]) -> Cells:
    found: Cells = {}
    for line in lines:
        for one in line.results:
            found.setdefault((_effect(one.point.boundary), line.script.name), Cell()).add(line.database, one)
        for point in line.spared:
            found.setdefault((_effect(point.boundary), line.script.name), Cell()).spared += 1
    return found


def _effect(boundary: str) -> str:
    return boundary.partition("_")[2]


def _side(boundary: str) -> str:
    return boundary.partition("_")[0]


def _frame(width: float, height: float, cells: Cells) -> list[str]:
    kills, bad = sum(one.kills for one in cells.values()), sum(len(one.bad) for one in cells.values())
    outcome = f"{bad:,} not recovered" if bad else "all recovered"
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" style="{FONT}">',
        f"<title>{TITLE}: {kills:,} kills, {outcome}</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8" '
        f'fill="{PAPER}" stroke="{GRID}"/>',
        _text(MARGIN, 34, f"{TITLE}: {kills:,} kills, {outcome}", size=18, weight="bold"),
    ]


def _entry_width(meaning: str) -> float:
    return CELL_W + 24 + len(meaning) * LETTER


def _legend(made: str) -> list[str]:
    shown, x = [_text(MARGIN, 54, made, fill=FAINT)], float(MARGIN)
    for fill, ink, number, meaning in KINDS:
        shown += _box(x, HEAD + 6, fill, ink, number)
        shown.append(_text(x + CELL_W + 6, HEAD + 20, meaning))
        x += _entry_width(meaning)
    return [*shown, _text(MARGIN, HEAD + 46, NUMBER)]


def _columns(grid: _Grid, lines: Sequence[Line]) -> Iterator[str]:
    """The purposes, turned; red where something did not hold."""
    words = {line.script.name: line.script.words for line in lines}
    complaints: dict[str, list[str]] = {}
    for line in lines:
        complaints.setdefault(line.script.name, []).extend(line.complaints)
    for name in grid.purposes:
        x, y = grid.x(name) + CELL_W / 2 + 4, grid.y - 8
        fill = RED if complaints[name] else INK
        told = "; ".join([words[name], *complaints[name]])
        turned = f' transform="rotate(-60 {x:.1f} {y:.1f})"'
        yield f"<g><title>{escape(told)}</title>{_text(x, y, name, fill=fill, more=turned)}</g>"
    yield _text(grid.right + CELL_W / 2 + 8, grid.y - 8, "all", anchor="middle", weight="bold")


def _rows(grid: _Grid, effects: Sequence[str]) -> Iterator[str]:
    """The effects, first what the exchange is asked, then what is committed, then the sum."""
    for title, wanted in (
        (REQUESTS, [one for one in effects if "." not in one]),
        (COMMITS, [one for one in effects if "." in one]),
    ):
        if not wanted:
            continue
        yield _text(MARGIN, grid.y + GROUP_H - 9, title, weight="bold")
        grid.y += GROUP_H
        for effect in wanted:
            yield from _row(grid, effect)
            grid.y += CELL_H
    grid.y += 8
    yield _text(grid.left - 10, grid.y + 14, "all", anchor="end", weight="bold")
    for purpose in grid.purposes:
        kills = sum(cell.kills for (_, its), cell in grid.cells.items() if its == purpose)
        yield _sum(grid.x(purpose) + CELL_W / 2, grid.y, kills)
    yield _sum(grid.right + CELL_W / 2 + 8, grid.y, sum(cell.kills for cell in grid.cells.values()))
    grid.y += CELL_H


def _row(grid: _Grid, effect: str) -> Iterator[str]:
    yield _text(grid.left - 10, grid.y + 14, effect, anchor="end")
    for purpose in grid.purposes:
        yield from _cell(grid, effect, purpose)
    kills = sum(cell.kills for (its, _), cell in grid.cells.items() if its == effect)
    yield _sum(grid.right + CELL_W / 2 + 8, grid.y, kills)


def _cell(grid: _Grid, effect: str, purpose: str) -> Iterator[str]:
    x, cell = grid.x(purpose), grid.cells.get((effect, purpose))
    if cell is None:
        yield from _box(x, grid.y, PAPER, FAINT, "")
        return
    told = f"{purpose}, {effect}: {cell.words()}"
    if cell.bad:
        shape = _box(x, grid.y, RED, ON_RED, f"{len(cell.bad)}/{max(cell.kills, len(cell.bad))}")
    elif cell.kills:
        shape = _box(x, grid.y, GREEN, ON_GREEN, f"{cell.kills:,}")
    else:
        shape = _box(x, grid.y, GRAY, FAINT, "·")
    yield f"<g><title>{escape(told)}</title>{''.join(shape)}</g>"


def _box(x: float, y: float, fill: str, ink: str, number: str) -> list[str]:
    shape = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL_W}" height="{CELL_H}" fill="{fill}" stroke="{GRID}"/>'
    )
    if not number:
        return [shape]
    return [shape, _text(x + CELL_W / 2, y + 14, number, size=11, fill=ink, anchor="middle")]


def _sum(x: float, y: float, number: int) -> str:
    return _text(x, y + 14, f"{number:,}" if number else "", size=11, fill=FAINT, anchor="middle")


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 12,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "normal",
    more: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}"{more}>{escape(words)}</text>'
    )
