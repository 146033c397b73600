"""Find scans by an id, a file name, or the beginning of a SHA-256."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, or_, select

from worker.db.schema import State, scans

_CHUNK = 200  # names looked up in one statement: well under SQLite's limit on bound values
_SHORTEST_PREFIX = 8  # digits of a SHA-256 that identify a film
_ID = "id:"  # prefix of an id, where a file name could be a number
_LISTED = 5  # matching scans listed in a message
_HAVE_A_VERDICT = (State.RECORDED, State.KEPT, State.FILED)


def find_scans(connection: Connection, names: set[str]) -> dict[str, list[RowMapping]]:
    """Return the scans that match each name, by id.

    A number matches an id and a file name; `id:7` matches only an id.
    """
    scans_by_name: dict[str, list[RowMapping]] = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), _CHUNK):
        scans_by_name |= _find_chunk(connection, ordered[start : start + _CHUNK])
    return scans_by_name


def choose_screened(rows: Sequence[RowMapping]) -> list[RowMapping] | str:
    """Return the screened scans among those that match a name, or why there is no single film.

    Several scans of the same bytes are all returned. Scans of different films are an error.
    """
    read = [row for row in rows if row["state"] in _HAVE_A_VERDICT and not row["refusal_code"]]
    if not read:
        refused = [row for row in rows if row["refusal_code"]]
        if refused:
            return f"scan {refused[-1]['id']} was refused ({refused[-1]['refusal_code']})"
        return "is not screened yet" if rows else "no scan of that id, file name or SHA-256"
    if len({row["sha256"] for row in read}) > 1:
        more = f", and {len(read) - _LISTED} more" if len(read) > _LISTED else ""
        could = ", ".join(
            f"scan {row['id']} ({row['file_name']}, {row['sha256'][:12]})" for row in read[:_LISTED]
        )
        return f"matches {could}{more}: choose one as id:{read[0]['id']}, or by its SHA-256"
    return read


def _find_chunk(connection: Connection, names: Sequence[str]) -> dict[str, list[RowMapping]]:
    prefixes = [name.lower() for name in names if _is_prefix(name)]
    statement = (
        select(
            scans.c.id,
            scans.c.file_name,
            scans.c.filed_as,
            scans.c.sha256,
            scans.c.state,
            scans.c.refusal_code,
        )
        .where(
            or_(
                scans.c.file_name.in_(names),
                scans.c.id.in_([number for name in names if (number := _id_in(name)) is not None]),
                # "g" sorts after every hexadecimal digit; a range can use the index.
                *(scans.c.sha256.between(prefix, f"{prefix}g") for prefix in prefixes),
            )
        )
        .order_by(scans.c.id)
    )
    rows = connection.execute(statement).mappings().all()
    by_name: dict[str, list[RowMapping]] = defaultdict(list)
    by_id: dict[int, RowMapping] = {}
    for row in rows:
        by_name[row["file_name"]].append(row)
        by_id[row["id"]] = row
    scans_by_name: dict[str, list[RowMapping]] = {}
    for name in names:
        number = _id_in(name)
        only_id = number is not None and name.startswith(_ID)
        hits = {} if only_id else {row["id"]: row for row in by_name[name]}
        if number is not None and number in by_id:
            hits[number] = by_id[number]
        if _is_prefix(name):
            hits |= {
                row["id"]: row for row in rows if (row["sha256"] or "").startswith(name.lower())
            }
        scans_by_name[name] = [hits[scan_id] for scan_id in sorted(hits)]
    return scans_by_name


def _id_in(name: str) -> int | None:
    number = name.removeprefix(_ID)
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None


def _is_prefix(name: str) -> bool:
    return len(name) >= _SHORTEST_PREFIX and set(name.lower()) <= set("0123456789abcdef")
