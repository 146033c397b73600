"""`lungwatch explain`: an archived film, what was said of it, and where the evidence lies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from driver import Site
from films import draw, jpeg, stored
from packages import copy_package
from PIL import Image

from worker.db.engine import Database
from worker.errors import ScanError
from worker.imaging.preprocessing import FilmLimits
from worker.model.registry import Registry
from worker.reports.explain import Explanation, explain

pytestmark = pytest.mark.slow

HAZY = draw(4, width=640, height=400, opacity=0.9)
FILMS = {
    "clear.jpeg": jpeg(draw(4, width=640, height=400)),
    "hazy.jpeg": jpeg(HAZY),
    "lying.jpeg": jpeg(stored(HAZY, 6), orientation=6),
    "8.jpeg": jpeg(draw(5, width=300, height=500)),
}


@pytest.fixture
def screened(tmp_path: Path, shipped: Path) -> Iterator[Site]:
    """A place where version `steady` has screened the films and refused one; `hot` is there too."""
    place = Site(tmp_path)
    copy_package(shipped, place.models, version="steady")
    copy_package(shipped, place.models, version="hot", temperature=1.4)
    Registry(place.models).promote("steady")
    place.drop(FILMS | {"text.jpg": b"hello"})
    place.call("run", "--once")
    yield place
    place.end()


def explained(site: Site, wanted: str, version: str | None = None) -> Explanation:
    """Return the explanation of a scan."""
    database = Database(site.database_url)
    try:
        return explain(
            database,
            Registry(site.models),
            site.folders,
            wanted,
            limits=FilmLimits(),
            version=version,
        )
    finally:
        database.close()


def test_it_explains_what_stands_in_the_row(screened: Site) -> None:
    """Score, threshold, decision and version are the row's; the map adds up to its logit."""
    rows = {row["file_name"]: row for row in screened.results()}
    logits = {row["scan_id"]: row["logit"] for row in screened.query("SELECT * FROM predictions")}
    for name in FILMS:
        row = rows[name]
        found = explained(screened, name)
        told = found.caption
        assert told.on_record
        assert (told.scan_id, told.version, told.sha256) == (
            row["scan_id"],
            "steady",
            row["sha256"],
        )
        assert (told.probability, told.decision) == (row["probability"], row["decision"])
        assert told.threshold == row["threshold"]
        total = found.evidence.sum(dtype=np.float64)
        assert total == pytest.approx(logits[row["scan_id"]], abs=1e-3)


def test_a_scan_is_named_by_id_name_or_hash(screened: Site) -> None:
    """As for labels: a name that is nobody's, or a refused film's, is told and not drawn."""
    row = next(row for row in screened.results() if row["file_name"] == "hazy.jpeg")
    for wanted in (str(row["scan_id"]), "hazy.jpeg", row["sha256"][:10]):
        assert explained(screened, wanted).caption.scan_id == row["scan_id"]
    with pytest.raises(ScanError, match=r"refused \(not_a_jpeg\)"):
        explained(screened, "text.jpg")
    with pytest.raises(ScanError, match="no scan of that"):
        explained(screened, "nobody.jpeg")


def test_the_film_stands_upright_in_its_own_aspect(screened: Site) -> None:
    """Also one that was stored on its side; and evidence is the same for the same picture."""
    upright, lying = explained(screened, "hazy.jpeg"), explained(screened, "lying.jpeg")
    assert upright.grey.shape == lying.grey.shape == (400, 640)
    assert abs(upright.grey.astype(int) - lying.grey.astype(int)).mean() < 2
    assert abs(upright.evidence - lying.evidence).max() < 0.02
    assert explained(screened, "8.jpeg").grey.shape == (640, 384)


def test_evidence_is_drawn_where_the_film_changed(screened: Site) -> None:
    """The same chest with an opacity in one lung: the maps differ most about that lung."""
    clear, hazy = explained(screened, "clear.jpeg"), explained(screened, "hazy.jpeg")
    change = abs(hazy.evidence - clear.evidence)
    opacity = abs(hazy.grey.astype(float) - clear.grey.astype(float))
    side = opacity.mean(axis=0)
    lit = int(side.argmax()) // (opacity.shape[1] // 8)
    columns = change.sum(axis=0)
    assert abs(int(columns.argmax()) - lit) <= 1


def test_another_version_is_asked_and_said_to_be_on_no_record(screened: Site) -> None:
    """--model: what it says now; after a rescore, what its row says."""
    row = explained(screened, "hazy.jpeg").caption
    asked = explained(screened, "hazy.jpeg", "hot").caption
    assert (asked.version, asked.on_record) == ("hot", False)
    assert asked.logit == pytest.approx(row.logit)
    assert asked.probability != row.probability
    screened.call("rescore", "--model", "hot")
    recorded = explained(screened, "hazy.jpeg", "hot").caption
    assert recorded.on_record
    assert recorded.probability == pytest.approx(asked.probability)


def test_it_says_what_a_rescore_will_say(screened: Site) -> None:
    """Of another version too the numbers are those for the site's own share of pneumonia."""
    screened.settings["PREVALENCE"] = "0.05"
    picture = ("-o", str(screened.root / "film.png"), "--force")
    before = screened.call("explain", "hazy.jpeg", "--model", "hot", *picture).stdout
    screened.call("rescore", "--model", "hot", "--limit", "9")
    assert screened.call("explain", "hazy.jpeg", "--model", "hot", *picture).stdout == before


def test_names_from_strangers_are_words(tmp_path: Path, shipped: Path) -> None:
    """A film's name does nothing to the terminal of whoever asks for it."""
    place = Site(tmp_path)
    copy_package(shipped, place.models, version="steady")
    Registry(place.models).promote("steady")
    place.drop({"a\x1b]0;owned\x07.jpeg": FILMS["hazy.jpeg"]})
    place.call("run", "--once")
    (film,) = [path for path in place.archive.rglob("*") if path.is_file()]
    film.unlink()
    ours, theirs = os.openpty()
    asked = subprocess.run(
        [*place.command, "explain", "1", "-o", str(tmp_path / "film.png")],
        env=place.environment,
        stderr=theirs,
        check=False,
    )
    told = os.read(ours, 4096)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 2
    assert b"x1b]0;owned" in told
    assert b"\x1b" not in told


def test_a_film_that_is_not_what_was_screened_is_not_explained(screened: Site) -> None:
    """Moved, replaced, another kind of file, or another answer than the row's: each says so."""
    rows = {row["file_name"]: row for row in screened.results()}
    place = {name: screened.archive / rows[name]["filed_as"] for name in FILMS}
    place["clear.jpeg"].rename(screened.root / "elsewhere.jpeg")
    with pytest.raises(ScanError, match="not where it was filed"):
        explained(screened, "clear.jpeg")
    place["clear.jpeg"].symlink_to(screened.root / "elsewhere.jpeg")
    with pytest.raises(ScanError, match="not where it was filed"):
        explained(screened, "clear.jpeg")
    place["8.jpeg"].unlink()
    os.mkfifo(place["8.jpeg"])
    with pytest.raises(ScanError, match="no regular file"):
        explained(screened, "8.jpeg")
    place["lying.jpeg"].write_bytes(FILMS["hazy.jpeg"])
    with pytest.raises(ScanError, match="not those that were screened"):
        explained(screened, "lying.jpeg")
    database = Database(screened.database_url)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE predictions SET logit = logit + 0.2")
    database.close()
    with pytest.raises(ScanError, match="is in its row"):
        explained(screened, "hazy.jpeg")


def test_films_kept_in_the_inbox_are_explained_there(tmp_path: Path, shipped: Path) -> None:
    """Where films stay, that is where they are read again."""
    site = Site(tmp_path, settings={"KEEP_IN_INBOX": "true"})
    copy_package(shipped, site.models, version="steady")
    Registry(site.models).promote("steady")
    site.drop({"hazy.jpeg": FILMS["hazy.jpeg"]})
    site.call("run", "--once")
    assert explained(site, "hazy.jpeg").caption.version == "steady"


def test_the_command_writes_a_picture_and_replaces_none(screened: Site) -> None:
    """A PNG and one line; what is there stays, unless --force; nothing half-made is left."""
    picture = screened.root / "hazy.png"
    told = screened.call("explain", "hazy.jpeg", "-o", "hazy.png").stdout
    assert "steady" in told
    with Image.open(picture) as opened:
        assert opened.format == "PNG"
        assert min(opened.size) > 500
    drawn = picture.read_bytes()
    picture.write_bytes(b"mine")
    again = screened.call("explain", "hazy.jpeg", "-o", "hazy.png", status=2)
    assert "exists: use --force" in again.stderr
    assert picture.read_bytes() == b"mine"
    screened.call("explain", "hazy.jpeg", "-o", "hazy.png", "--force")
    assert picture.read_bytes() == drawn
    for arguments, why in (
        (("hazy.jpeg", "-o", "hazy.jpeg"), "end in .png"),
        (("hazy.jpeg", "-o", "nowhere/hazy.png"), "cannot be written"),
        (("text.jpg", "-o", "text.png"), "refused (not_a_jpeg)"),
        (("hazy.jpeg", "-o", "cold.png", "--model", "cold"), "no model cold"),
    ):
        assert why in screened.call("explain", *arguments, status=2).stderr
    assert {path.name for path in screened.root.iterdir() if "png" in path.name} == {"hazy.png"}


def test_a_version_that_is_gone_is_named(screened: Site) -> None:
    """Pruned since: the film can be explained by another version alone, and that is said."""
    Registry(screened.models).promote("hot")
    screened.call("models", "prune", "--keep", "1", "--even-if-needed")
    if (screened.models / "steady").exists():
        Registry(screened.models).remove("steady")
    told = screened.call("explain", "hazy.jpeg", "-o", "hazy.png", status=2).stderr
    assert "steady, which is no longer in" in told
    screened.call("explain", "hazy.jpeg", "-o", "hazy.png", "--model", "hot")
