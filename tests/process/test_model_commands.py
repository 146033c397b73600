"""`lungwatch models ...`, as the person who looks after the models types it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from databases import execute
from driver import Site
from packages import change_manifest, copy_package
from scans import manifest, sighting, verdict, worker

from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.model.history import HISTORY
from worker.model.manifest import SERVED
from worker.model.registry import Registry
from worker.types import Changes


@pytest.fixture
def site(tmp_path: Path, shipped: Path) -> Iterator[Site]:
    """A place with three versions, made one after the other, of which `first` serves."""
    place = Site(tmp_path)
    for number, version in enumerate(("first", "second", "third")):
        made = datetime(2027, 1, 1 + number, tzinfo=UTC).isoformat()
        copy_package(shipped, place.models, version=version, created_at=made)
    registry_of(place).promote("first", who="test", why="to begin with")
    yield place
    place.end()


@pytest.fixture
def any_site(site: Site, database_url: str) -> Site:
    """The same place, on each database."""
    site.database_url = database_url
    return site


def registry_of(site: Site) -> Registry:
    """Return the site's registry."""
    return Registry(site.models)


def spoil(site: Site, version: str) -> None:
    """Change a byte of a version's weights."""
    weights = site.models / version / SERVED
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")


def screened_by(site: Site, version: str, count: int) -> None:
    """Put rows into the site's database that a version predicted."""
    database = Database(site.database_url)
    store = worker(database)
    store.register_model(manifest(version))
    seen = [sighting(f"{version}-{number}.jpg", inode=number) for number in range(count)]
    claims = store.claim(seen, lease_seconds=60).claims
    store.apply(Changes(outcomes=[verdict(claim, version=version) for claim in claims]))
    database.close()


def test_a_bare_models_lists_as_list_does(site: Site) -> None:
    """Each version has its line; what serves and what was rolled back are marked."""
    registry_of(site).promote("second")
    registry_of(site).rollback(who="test", why="worse")
    told = site.call("models").stdout
    assert site.call("models", "list").stdout == told
    marks = {line.split("  ")[0].strip(): line for line in told.splitlines()}
    assert "first" in marks["yes"]
    assert "second" in marks["rolled back"]
    assert "third" in marks[""]


def test_a_promotion_and_a_rollback_with_their_reasons(any_site: Site) -> None:
    """What serves changes; folder and database tell who did it when, from what, and why."""
    any_site.call("models", "promote", "second", "--why", "better AUC")
    assert registry_of(any_site).champion() == "second"
    said = any_site.call("models", "rollback", "--why", "too many reviews").stdout
    assert "first serves again" in said
    assert "second is rolled back" in said
    assert registry_of(any_site).champion() == "first"
    rows = any_site.query("SELECT * FROM promotions ORDER BY id")
    history = registry_of(any_site).history()
    assert [(one["version"], one["from_version"], one["why"]) for one in rows] == [
        ("first", None, "to begin with"),
        ("second", "first", "better AUC"),
        ("first", "second", "too many reviews"),
    ]
    assert [one["kind"] for one in rows] == ["promote", "promote", "rollback"]
    assert [one.who for one in history] == [one["who"] for one in rows]
    assert all(one.who for one in history)


def test_only_a_person_who_insists_promotes_what_was_rolled_back(site: Site) -> None:
    """`promote` refuses it and says when and why it was rolled back; `--again` overrules that."""
    site.call("models", "promote", "second")
    site.call("models", "rollback", "--to", "first", "--why", "misses effusions")
    refused = site.call("models", "promote", "second", status=2)
    assert "misses effusions" in refused.stderr
    assert registry_of(site).champion() == "first"
    overruled = site.call("models", "promote", "second", "--again", "--why", "was the machine")
    assert "as you asked" in overruled.stdout
    assert registry_of(site).champion() == "second"


def test_what_fails_its_checks_is_not_promoted(site: Site) -> None:
    """Damaged, of a newer format, too slow, or not there: one line, status 2, nothing changed."""
    spoil(site, "second")
    change_manifest(site.models / "third", format=3)
    before = (site.models / HISTORY).read_bytes()
    for version, told in (("second", SERVED), ("third", "format"), ("fourth", "no model fourth")):
        for command in (("promote", version), ("rollback", "--to", version, "--why", "x")):
            (line,) = [
                line
                for line in site.call("models", *command, status=2).stderr.splitlines()
                if line.startswith("lungwatch:")
            ]
            assert told in line
    site.settings["PREDICT_MILLISECONDS"] = "0.001"
    assert "ms a film" in site.call("models", "promote", "first", status=2).stderr
    assert registry_of(site).champion() == "first"
    assert (site.models / HISTORY).read_bytes() == before


def test_a_rollback_needs_a_reason_and_somewhere_to_go(site: Site) -> None:
    """Without a reason, or with no version before, nothing is done."""
    assert "--why" in site.call("models", "rollback", status=2).stderr
    assert "no earlier" in site.call("models", "rollback", "--why", "x", status=2).stderr


def test_verify_has_a_line_for_each(site: Site) -> None:
    """All versions, or the one named; exit status 1 if any may not serve."""
    assert site.call("models", "verify").stdout.count("ok ") == 3
    spoil(site, "second")
    lines = site.call("models", "verify", status=1).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "FAILED", "ok"]
    assert site.call("models", "verify", "first").stdout.startswith("ok ")
    assert "no model nine" in site.call("models", "verify", "nine", status=1).stdout
    site.settings["MODELS"] = str(site.root / "another")
    assert "there is no model in" in site.call("models", "verify").stdout


def test_show_and_diff(site: Site, shipped: Path) -> None:
    """`show` gives threshold and measures; `diff` what differs, and only that."""
    told = site.call("models", "show", "first").stdout
    shown = Registry(shipped.parent).manifest(shipped.name)
    for words in ("serves", f"{shown.threshold:.4f}", "auc", "sensitivity", "data digest"):
        assert words in told
    change_manifest(site.models / "second", threshold=0.25)
    differs = site.call("models", "diff", "first", "second").stdout
    names = [line.split()[0] for line in differs.splitlines()[1:]]
    assert names == ["created_at", "threshold"]
    assert "0.2500" in differs
    assert f"{shown.threshold:.4f}" in differs
    change_manifest(site.models / "second", version="third", threshold=shown.threshold)
    (site.models / "third").rename(site.models / "gone")
    (site.models / "second").rename(site.models / "third")
    change_manifest(
        site.models / "third", created_at=registry_of(site).manifest("first").created_at
    )
    assert "differ only in their names" in site.call("models", "diff", "first", "third").stdout


def test_show_counts_every_film_marked_review(site: Site) -> None:
    """Of the shipped model 26 test films of 584, near the threshold or unfamiliar; not 23."""
    told = site.call("models", "show", "first").stdout
    (line,) = (line for line in told.splitlines() if "review_share" in line)
    evaluation = json.loads((site.models / "first" / "evaluation.json").read_bytes())
    assert f"{evaluation['undecided'] - evaluation['unfamiliar']['refused']:.4f}" in line


def test_explain_tells_all_that_is_known(any_site: Site) -> None:
    """Standing, promotions, the night that made it, rows by decision, manifest, measures, card."""
    database = Database(any_site.database_url)
    runs = TrainingRuns(database)
    run = runs.open("ward:models", {"salt": "pepper-and-salt"})
    runs.close(run, ruling=Ruling.HELD, reasons=["not [better] by enough"], challenger="second")
    database.close()
    screened_by(any_site, "second", 3)
    any_site.call("models", "promote", "second", "--why", "[red]trust me[/red]")
    told = any_site.call("models", "explain", "second").stdout
    data = registry_of(any_site).manifest("second").training["data_digest"]
    for words in ("serves", "[red]trust me[/red]", "pepper-and-salt", "held", data, "# Model"):
        assert words in told, words
    assert "not [better] by enough" in told
    assert re.search(r"screening \w+ +3\b", told)


@pytest.mark.parametrize("harm", ["damaged", "a folder", "gone"])
def test_explain_tells_the_rest_where_the_card_is_damaged(site: Site, harm: str) -> None:
    """Of the card what can be read of it, or why it cannot."""
    card = registry_of(site).folder("first") / "card.md"
    whole = card.read_bytes()
    card.unlink()
    if harm == "damaged":
        card.write_bytes(whole[:40] + b"\xff\xfe" + whole[42:])
    elif harm == "a folder":
        card.mkdir()
    told = site.call("models", "explain", "first").stdout
    assert "Evaluation" in told
    assert ("# Model" in told) == (harm == "damaged")
    assert ("The card cannot be read: Is a directory" in told) == (harm == "a folder")


def test_explain_before_there_is_a_database_or_a_package(site: Site) -> None:
    """Without a database the package and the history tell; without a package, they do."""
    assert "# Model" in site.call("models", "explain", "first").stdout
    assert "does not serve" in site.call("models", "explain", "unknown").stdout
    assert "no model unknown" in site.call("models", "explain", "unknown").stdout


def test_prune_spares_what_serves_and_what_explains_a_row(any_site: Site, shipped: Path) -> None:
    """Of old packages it removes those that nobody needs, and says why it keeps the others."""
    copy_package(shipped, any_site.models, version="ancient", created_at="2020-01-01T00:00:00Z")
    copy_package(shipped, any_site.models, version="broken", created_at="2020-01-01T00:00:00Z")
    change_manifest(any_site.models / "broken", format=3)
    screened_by(any_site, "second", 2)
    said = any_site.call("models", "prune", "--keep", "1").stdout.splitlines()
    assert {line for line in said if "broken" not in line} == {
        "removed ancient",
        "kept    first: it serves",
        "kept    second: 2 predictions name it",
    }
    left = {"first", "second", "third", "broken"}
    assert {path.name for path in any_site.models.iterdir() if path.is_dir()} == left
    any_site.call("models", "prune", "--keep", "1", "--even-if-needed")
    assert {path.name for path in any_site.models.iterdir() if path.is_dir()} == left - {"second"}


def test_prune_without_a_database_to_ask_removes_nothing(site: Site) -> None:
    """Whether a row needs a package cannot be told: nothing goes, unless that does not matter."""
    assert "no database" in site.call("models", "prune", "--keep", "1", status=2).stderr
    assert registry_of(site).versions() == ["first", "second", "third"]
    site.call("models", "prune", "--keep", "1", "--even-if-needed")
    assert registry_of(site).versions() == ["first", "third"]


def test_a_database_that_is_away_does_not_keep_a_promotion_back(any_site: Site) -> None:
    """The folder is the truth: the promotion holds, the person is told, the next one catches up."""
    database = Database(any_site.database_url)
    execute(database, "ALTER TABLE promotions RENAME TO elsewhere")
    told = any_site.call("models", "promote", "second", "--why", "while it was away")
    assert "not yet in the database" in told.stderr
    assert registry_of(any_site).champion() == "second"
    execute(database, "ALTER TABLE elsewhere RENAME TO promotions")
    database.close()
    any_site.call("models", "promote", "third")
    rows = any_site.query("SELECT version FROM promotions ORDER BY id")
    assert [row["version"] for row in rows] == ["first", "second", "third"]
