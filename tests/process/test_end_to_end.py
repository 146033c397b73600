"""The whole worker as a process: films in, rows and filed films out, whatever happens between."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import films
import pytest
from driver import Site, wait_for
from sklearn.metrics import roc_auc_score
from swaps import report


def damaged() -> dict[str, bytes]:
    """Return one film for each way to be refused, by name."""
    return {f"{name}.jpg": bad.data for name, bad in films.bad_films().items()}


def test_a_film_moved_into_the_inbox_is_not_waited_for(site: Site) -> None:
    """Written aside and renamed, a film is screened at once, however long others must settle."""
    site.settings |= {"SETTLE_SECONDS": "3600", "SCAN_SECONDS": "3600"}
    worker = site.start()
    wait_for(lambda: report(site).get("model"), what="it serves")
    (site.root / "aside.jpeg").write_bytes(films.batch(1)["scan-0-000.jpeg"])
    (site.root / "aside.jpeg").rename(site.inbox / "film.jpeg")
    site.wait_until_finished(1)
    assert site.stop(worker) == 0


def test_each_film_is_answered_once_though_the_worker_is_killed(any_site: Site) -> None:
    """Killed in the middle again and again, the worker in the end answers every film once."""
    everything = films.batch(60) | damaged()
    names = list(everything)
    random.Random(7).shuffle(names)
    before, during = names[: len(names) // 2], names[len(names) // 2 :]
    any_site.drop({name: everything[name] for name in before})
    for already in (1, 15, 40):
        worker = any_site.start()
        any_site.wait_until_finished(already)
        any_site.stop(worker, signal.SIGKILL)
        assert any_site.finished() < len(everything), "it must die in the middle"
        some, during = during[:12], during[12:]
        any_site.drop({name: everything[name] for name in some})
    any_site.drop({name: everything[name] for name in during})
    any_site.start()
    any_site.wait_until_finished(len(everything))
    any_site.check_invariants(everything)


def test_refusals_say_what_where_and_how_much(site: Site) -> None:
    """Each refusal stands in the view, in the JSON beside its file and in the table, alike."""
    bad = films.bad_films()
    site.drop(damaged())
    site.call("run", "--once")
    site.check_invariants(damaged())
    table = site.call("results", "--refused", "--limit", "500").stdout
    for row in site.results():
        case = bad[row["file_name"].removesuffix(".jpg")]
        assert row["refusal_code"] in {code.value for code in case.codes}
        place = site.refused / row["filed_as"]
        why = json.loads(place.with_name(place.name + ".json").read_text(encoding="utf-8"))
        assert why["refusal_code"] == row["refusal_code"]
        assert why["sentence"] == row["refusal_sentence"]
        assert (why["measured"], why["limit"]) == (row["refusal_measured"], row["refusal_limit"])
        assert row["refusal_code"] in table
        assert row["probability"] is row["model_version"] is row["threshold"] is None


def test_odd_but_sound_films_are_predicted(site: Site) -> None:
    """What looks odd and harms nothing gets a prediction, with the model and threshold named."""
    odd = {f"{name}.jpg": data for name, data in films.odd_but_sound().items()}
    site.drop(odd)
    site.call("run", "--once")
    rows = site.results()
    assert len(rows) == len(odd)
    for row in rows:
        assert row["decision"] in ("NORMAL", "PNEUMONIA", "REVIEW"), row
        assert 0 <= row["probability"] <= 1
        sure = row["probability"] if row["label"] == "PNEUMONIA" else 1 - row["probability"]
        assert row["confidence"] == pytest.approx(sure)
        assert (row["label"] == "PNEUMONIA") == (row["probability"] >= row["threshold"])
        assert row["model_version"] == (site.models / "CHAMPION").read_text().strip()


def test_films_that_come_while_it_runs(site: Site) -> None:
    """Copied, renamed into place, or written slowly: each is answered, and temporary names wait."""
    site.settings["SCAN_SECONDS"] = "3600"  # so that it is events that tell
    site.settings["INCOMPLETE_SECONDS"] = "3600"  # so that the slow one is not given up
    worker = site.start()
    wait_for(lambda: '"films_per_second"' in _report(site), what="the worker is up")
    three = films.batch(3)
    copied, renamed, slow = three
    site.drop({copied: three[copied]})
    (site.inbox / "upload.part").write_bytes(three[renamed])
    with (site.inbox / slow).open("wb") as file:
        file.write(three[slow][:1000])
        file.flush()
        site.wait_until_finished(1)
        assert [row["file_name"] for row in site.results()] == [copied]
        file.write(three[slow][1000:])
    (site.inbox / "upload.part").rename(site.inbox / renamed)
    site.wait_until_finished(3)
    assert site.stop(worker) == 0
    site.check_invariants(three)


def _report(site: Site) -> str:
    try:
        rows = site.query("SELECT report FROM workers")
    except Exception:  # noqa: BLE001 - no tables yet
        return ""
    return str([row["report"] for row in rows])


def test_the_same_bytes_are_predicted_once(any_site: Site) -> None:
    """The same bytes under other names, at once or later, get rows of their own, one answer."""
    (data,) = films.batch(1).values()
    together = {f"together-{number}.jpeg": data for number in range(6)}
    any_site.drop(together)
    any_site.call("run", "--once")
    any_site.drop({"later.jpeg": data, "other.jpeg": films.jpeg(films.draw(99))})
    any_site.call("run", "--once")
    rows = {row["file_name"]: row for row in any_site.results()}
    assert rows.keys() == {*together, "later.jpeg", "other.jpeg"}
    same = [row for name, row in rows.items() if name != "other.jpeg"]
    assert len({row["probability"] for row in same}) == 1
    assert sum(not row["reused"] for row in same) == 1, "one was predicted, the others reused"
    assert not rows["other.jpeg"]["reused"]


def test_sigterm_leaves_nothing_in_hand(site: Site) -> None:
    """Told to stop in mid-batch it ends well and soon, and the next start finishes the rest."""
    everything = films.small_batch(1500)
    site.drop(everything)
    worker = site.start()
    wait_for(lambda: site.finished() >= 5, what="some films done")
    assert site.stop(worker) == 0
    left = site.query("SELECT count(*) AS n FROM scans WHERE state = 'recorded'")
    assert left == [{"n": 0}]
    assert 5 <= len(site.results()) < len(everything)
    site.call("run", "--once")
    site.check_invariants(everything)


def test_films_may_stay_in_the_inbox(site: Site) -> None:
    """With KEEP_IN_INBOX films stay where they are, and a restart does not screen them again."""
    site.settings["KEEP_IN_INBOX"] = "true"
    kept = films.batch(5)
    site.drop(kept)
    site.call("run", "--once")
    first = site.results()
    site.call("run", "--once")
    assert site.results() == first
    assert len(first) == len(kept)
    assert {path.name: path.read_bytes() for path in site.inbox.iterdir()} == kept


def test_a_refused_film_that_stayed_is_tried_again(site: Site) -> None:
    """With KEEP_IN_INBOX, `retry` has a refused film screened anew where it lies."""
    site.settings["KEEP_IN_INBOX"] = "true"
    site.drop({"text.jpg": b"hello"})
    site.call("run", "--once")
    assert "back in the inbox" in site.call("retry", "text.jpg").stdout
    site.call("run", "--once")
    assert [row["refusal_code"] for row in site.results()] == ["not_a_jpeg", "not_a_jpeg"]


def test_the_log_names_no_file(site: Site) -> None:
    """File names can carry a patient's name: no log line above DEBUG holds one."""
    site.drop(films.batch(3) | damaged())
    worker = site.start()
    site.wait_until_finished(3 + len(damaged()))
    site.stop(worker)
    log = site.log()
    assert log.count('"event": "screened"') == 3
    assert log.count('"event": "refused"') == len(damaged())
    for line in log.splitlines():
        assert json.loads(line)["level"] in ("info", "warning", "error")
    for name in films.batch(3) | damaged():
        assert name not in log
    assert str(site.inbox) not in log


def test_real_films_get_the_rows_and_the_auc_that_the_package_promises(
    site: Site, data: Path, shipped: Path
) -> None:
    """764 real films, half before the start, half during: 764 rows, the block's AUC to 4 digits."""
    originals = sorted((data / "originals").rglob("*.jpeg"))
    block = sorted((data / "chest_xray" / "test").rglob("*.jpeg"))
    # An original and its copy share a name; an inbox has each name once.
    named = {f"original-{path.name}": path for path in originals}
    named |= {f"block-{path.parent.name}-{path.name}": path for path in block}
    assert len(named) == 764
    names = sorted(named)
    random.Random(3).shuffle(names)
    for name in names[:382]:
        shutil.copyfile(named[name], site.inbox / name)
    worker = site.start()
    wait_for(lambda: site.finished() > 0, what="a first film")
    for name in names[382:]:
        shutil.copyfile(named[name], site.inbox / name)
    site.wait_until_finished(764)
    assert site.stop(worker) == 0
    rows = site.results()
    assert sorted(row["file_name"] for row in rows) == sorted(names)
    assert all(row["decision"] is not None for row in rows)
    of_block = [row for row in rows if row["file_name"].startswith("block-")]
    truth = [row["file_name"].startswith("block-PNEUMONIA-") for row in of_block]
    auc = roc_auc_score(truth, [row["probability"] for row in of_block])
    promised = json.loads((shipped / "evaluation.json").read_text(encoding="utf-8"))["auc"]
    assert round(auc, 4) == round(promised, 4)


def test_a_database_that_comes_later_is_waited_for(site: Site) -> None:
    """Started before its database is there, the worker says so once and begins when it is."""
    database = site.root / "not-yet.db"
    database.write_text("no database", encoding="utf-8")
    site.database_url = f"sqlite:///{database}"
    three = films.batch(3)
    site.drop(three)
    worker = site.start()
    wait_for(lambda: '"trouble"' in site.log(), what="the trouble is said")
    database.unlink()
    wait_for(lambda: _count(site) == 3, what="all three done")
    assert site.stop(worker) == 0
    assert site.log().count('"event": "trouble"') == 1


def _count(site: Site) -> int:
    try:
        return int(site.query("SELECT count(*) AS n FROM scans WHERE state = 'filed'")[0]["n"])
    except Exception:  # noqa: BLE001 - no tables yet
        return 0


def test_a_worker_that_does_not_list_leaves_what_it_does_not_see(
    site: Site, tmp_path: Path
) -> None:
    """Stopped with its share not mounted, it ends no claim on a film that another waits for."""
    site.settings["INCOMPLETE_SECONDS"] = "600"
    site.call("run", "--once")
    site.drop({"half.jpg": films.truncated(films.jpeg(films.draw(4)), 50)})
    site.start()
    put_back = "SELECT state FROM scans WHERE lease_until < '1971-01-01'"
    wait_for(lambda: site.query(put_back))
    other = Site(tmp_path / "other", database_url=site.database_url)
    helper = other.start()
    wait_for(lambda: any(one["report"].get("lists") is False for one in _workers(other)))
    other.stop(helper)
    assert [row["state"] for row in site.query("SELECT state FROM scans")] == ["claimed"]


def test_films_that_stay_are_found_by_every_worker(site: Site, tmp_path: Path) -> None:
    """Nobody is offered them: a worker beside the one that lists looks for itself."""
    site.call("run", "--once")
    site.start()
    wait_for(lambda: any(one["report"].get("lists") for one in _workers(site)))
    other = Site(tmp_path / "other", database_url=site.database_url)
    other.settings |= {"KEEP_IN_INBOX": "true", "SCAN_SECONDS": "600"}
    other.drop(films.small_batch(3))
    try:
        other.start()
        wait_for(lambda: len(other.results()) == 3)
    finally:
        other.end()


def _workers(site: Site) -> list[Any]:
    told: list[Any] = json.loads(site.call("status", "--json", status=None).stdout)["workers"]
    return told
