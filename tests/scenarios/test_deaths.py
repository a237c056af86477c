"""Real processes killed at every boundary of a base order, and at some of what else there is: nothing is
doubled, nothing is lost, and nobody is needed. `dca prove sweep` does it at all of them."""

from pathlib import Path

import databases

from dca.prove.crash import Point, sweeping
from dca.prove.crash_scripts import SCRIPTS, Script

AT_ONCE = 2


ON_MARIADB = {
    "take_profit": {"after_pipeline.place", "after_submit", "before_recorder.record"},
    "stuck_sell": {"after_cancel", "after_pipeline.place"},
}


def script(name: str) -> Script:
    (found,) = (one for one in SCRIPTS if one.name == name)
    return found


def _is_first(point: Point) -> bool:
    """Of what is crossed again and again the first time will do, but every answer and fill counts."""
    return point.ordinal == 1 or point.boundary.endswith("recorder.record")


def test_killed_at_every_boundary_of_a_base_order_the_next_process_mends_it(
    sqlite_template: databases.SqliteTemplate, tmp_path: Path
) -> None:
    urls = [sqlite_template.database(tmp_path) for _ in range(AT_ONCE)]
    with sweeping("sqlite", urls, tmp_path / "lives") as sweep:
        line = sweep.script(script("base"), _is_first)
    assert line.complaints == ()
    assert line.holds
    assert len(line.results) > 30


def test_killed_on_mariadb_too(
    mariadb_template: databases.MariadbTemplate, mariadb_url: str, tmp_path: Path
) -> None:
    with (
        mariadb_template.database() as another,
        sweeping("mariadb", [mariadb_url, another], tmp_path / "lives") as sweep,
    ):
        for name, boundaries in ON_MARIADB.items():
            line = sweep.script(
                script(name),
                lambda point: point.boundary in boundaries and point.ordinal == 1,  # noqa: B023
            )
            assert line.complaints == ()
            assert len(line.results) == line.recovered == len(boundaries)
