"""Test the numbers of the routes of the controller's file, as a controller finds them at its start."""

from __future__ import annotations

from orchestrator.controller import restore
from orchestrator.controller.explicit_routes import identity
from orchestrator.settings.controller import ControllerSettings, RouteEntry
from orchestrator.store import LabRow, PinRow, RouteRow, Snapshot

from .fakes import settings

EAST, WEST = ((1, 2), (2, 3)), ((1, 4), (4, 3))
DATABASE = {"host": "", "database": ""}


def file_of(*routes: RouteEntry) -> ControllerSettings:
    return settings(DATABASE, 4, routes=routes)


def found(
    routes: tuple[RouteRow, ...] = (), numbered: tuple[RouteRow, ...] = (), pins: tuple[PinRow, ...] = ()
) -> Snapshot:
    return Snapshot(LabRow("ring", 1, False), (), (), routes, (), 0, (), file_routes=numbered, pins=pins)


def test_the_routes_of_a_first_file_have_the_numbers_that_they_are_given() -> None:
    file = file_of(RouteEntry(src=1, dst=3, edges=WEST), RouteEntry(src=1, dst=3, edges=EAST, computed=True))
    assert len(restore.unnumbered(file, found())) == 2
    explicit = restore.build(file, found(), [1, 2]).explicit
    assert [(row.route_id, row.edges, row.origin) for row in explicit.rows.values()] == [
        (1, WEST, "file"),
        (2, EAST, "computed"),
    ]
    assert explicit.of_file == {identity(1, 3, WEST): 1, identity(1, 3, EAST): 2}


def test_a_route_has_the_number_of_its_row_wherever_it_is_in_the_file() -> None:
    rows = RouteRow(1, 1, 3, EAST), RouteRow(2, 1, 3, WEST, "operator", 7.0)
    known = found(rows, (RouteRow(2, 1, 3, WEST),), (PinRow(9, 1, 3, 1),))
    back = RouteEntry(src=3, dst=1, edges=((3, 2), (2, 1)))
    # The order of the edges does not count, the weight is that of the file unless somebody changed it.
    east = RouteEntry(src=1, dst=3, edges=EAST[::-1], weight=4.0)
    file = file_of(back, RouteEntry(src=1, dst=3, edges=WEST), east)
    assert restore.unnumbered(file, known) == [identity(3, 1, back.edges)]
    explicit = restore.build(file, known, [5]).explicit
    assert {n: (row.dst, row.weight) for n, row in explicit.rows.items()} == {
        5: (1, 1.0),
        1: (3, 4.0),
        2: (3, 7.0),
    }
    assert explicit.pins.keys() == {9}


def test_a_route_that_was_deleted_stays_so_until_another_file_declares_it_anew() -> None:
    known = found((), (RouteRow(1, 1, 3, EAST),))
    declared = file_of(RouteEntry(src=1, dst=3, edges=EAST))
    assert restore.build(declared, known, []).explicit.rows == {}
    without = restore.build(file_of(), known, []).explicit
    assert without.rows == without.of_file == {}
