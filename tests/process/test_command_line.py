"""The command line, as an operator types it."""

from __future__ import annotations

import csv
import io
import json
import signal
import socket
import subprocess
import tomllib
from pathlib import Path

import films
import pytest
from checkout import REPOSITORY
from driver import Site, wait_for, without_rights
from films import batch
from packages import change_manifest

from worker.model.population import GUANGZHOU, Population


@pytest.fixture
def screened(site: Site) -> Site:
    """A place where four films were screened and two refused."""
    site.drop(batch(4) | {"empty.jpg": b"", "text.jpg": b"hello"})
    site.call("run", "--once")
    return site


def test_run_once_says_whether_it_could(site: Site) -> None:
    """`run --once` ends with 0 when all was answered, and not with 0 when it could not work."""
    site.call("run", "--once", status=0)
    site.drop(batch(2))
    site.database_url = f"sqlite:///{site.root}/inbox/{next(iter(batch(1)))}"  # a film, no database
    failed = site.call("run", "--once", status=1)
    assert "trouble" in failed.stdout
    assert {path.name for path in site.inbox.iterdir()} == set(batch(2)), "nothing lost"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("INBOX", "nowhere", ["nowhere", "Make it"]),
        ("ARCHIVE", "inbox", ["LUNGWATCH_INBOX", "different"]),
        ("SETTLE_SECONDS", "soon", ["soon", "valid number"]),
        ("SCREENERS", "-1", ["-1", "greater than or equal to 0"]),
        ("DATABASE_URL", "mysql://db/x", ["mysql", "sqlite:///", "postgresql+psycopg://"]),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line(
    site: Site, setting: str, value: str, told: list[str]
) -> None:
    """The line names the setting, what it holds, and what would do."""
    site.settings[setting] = str(site.root / value) if value == "inbox" else value
    ended = site.call("run", "--once", status=2)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for words in (f"LUNGWATCH_{setting}", *told):
        assert words in line


def test_a_database_password_is_never_shown(site: Site) -> None:
    """Neither the log nor an error says the password of the database."""
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        port = nobody_listens.getsockname()[1]
        site.database_url = f"postgresql+psycopg://me:hunter2@127.0.0.1:{port}/db"
        ended = [site.call("run", "--once", status=1), site.call("results", status=2)]
        ended += [site.call("check", status=1)]
    for done in ended:
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_results_as_table_csv_and_json(screened: Site) -> None:
    """The three forms tell the same, newest first."""
    table = screened.call("results").stdout
    lines = list(csv.DictReader(io.StringIO(screened.call("results", "--format", "csv").stdout)))
    objects = json.loads(screened.call("results", "--format", "json").stdout)
    assert len(lines) == len(objects) == 6
    assert [int(line["scan_id"]) for line in lines] == [one["scan_id"] for one in objects]
    assert objects == sorted(
        objects, key=lambda one: (one["screened_at"], one["scan_id"]), reverse=True
    )
    for one in objects:
        assert one["file_name"] in table
        if one["decision"]:
            assert f"{one['probability']:.3f}" in table
            assert one["model_version"] in table
        assert one["screened_at"].endswith("+00:00")


def test_results_are_narrowed(screened: Site) -> None:
    """--limit, --decision, --since and --refused each leave what they should."""

    def found(*arguments: str) -> list[dict[str, str]]:
        text = screened.call("results", "--format", "json", *arguments).stdout
        rows: list[dict[str, str]] = json.loads(text)
        return rows

    everything = found()
    assert found("--limit", "2") == everything[:2]
    third = str(everything[2]["scan_id"])
    assert found("--before", third) == everything[3:]
    assert found("--before", third, "--refused") == [
        one for one in everything[3:] if one["refusal_code"]
    ]
    assert "777: there is no" in screened.call("results", "--before", "777", status=2).stderr
    for decision in ("NORMAL", "PNEUMONIA", "REVIEW"):
        assert found("--decision", decision) == [
            one for one in everything if one["decision"] == decision
        ]
    assert {one["file_name"] for one in found("--refused")} == {"empty.jpg", "text.jpg"}
    assert found("--since", "1h") == everything
    assert found("--since", "2999-01-01") == []
    assert "use 2026-11-23" in screened.call("results", "--since", "lately", status=2).stderr


def test_results_before_there_are_any(site: Site) -> None:
    """Asked too early, the answer is a sentence, not a traceback."""
    assert "lungwatch run" in site.call("results", status=2).stderr
    site.call("run", "--once")
    assert site.call("results").stdout == "No results yet.\n"


def test_labels_are_given_one_by_one_or_by_a_list(screened: Site) -> None:
    """`label` answers in a line and `results` shows it; a list with a bad line changes nothing."""
    one, *others = [row for row in screened.results() if row["decision"] is not None]
    said = screened.call("label", one["sha256"][:12], "pneumonia", "--by", "Dr. A").stdout
    assert said == "1 scan labelled\n"
    lines = [f"{row['scan_id']},NORMAL" for row in others]
    for wrong in (["7777,NORMAL"], []):
        (screened.root / "labels.csv").write_text("\n".join(["scan,label", *lines, *wrong]))
        done = screened.call(
            "label", "--csv", "labels.csv", "--by", "Dr. B", status=1 if wrong else 0
        )
        assert ("line 5: 7777: no scan" in done.stderr) == bool(wrong)
        labelled = [row["reader_label"] for row in screened.results() if row["decision"]]
        assert labelled == ["PNEUMONIA"] + [None if wrong else "NORMAL"] * 3
    assert screened.call("label", "text.jpg", "NORMAL", "--by", "me", status=1).stdout == ""
    assert (
        "refused (not_a_jpeg)"
        in screened.call("label", "text.jpg", "NORMAL", "--by", "me", status=1).stderr
    )
    for arguments in ([], ["1"], ["1", "NORMAL", "--csv", "labels.csv"]):
        assert "--csv" in screened.call("label", *arguments, status=2).stderr


def test_status_tells_of_a_living_and_of_a_dead_worker(site: Site) -> None:
    """`status` ends with 0 beside a worker that lives and is well, with 1 otherwise."""
    site.drop(batch(3) | {"empty.jpg": b""})
    (site.inbox / "a folder").mkdir()
    worker = site.start()
    site.wait_until_finished(4)
    champion = (site.models / "CHAMPION").read_text().strip()
    wait_for(lambda: "1 folder" in (told := site.call("status").stdout) and champion in told)
    alive = site.call("status", status=0).stdout
    for words in ("alive", "3 (", "1 (1 empty)", champion):
        assert words in alive
    assert GUANGZHOU.sentence in " ".join(alive.split())
    report = json.loads(site.call("status", "--json").stdout)["workers"][0]["report"]
    assert Population.model_validate(report["population"]) == GUANGZHOU
    site.stop(worker, signal.SIGTERM)
    assert "none" in site.call("status", status=1).stdout


def test_models_lists_packages_and_marks_the_one_that_serves(screened: Site) -> None:
    """`models` shows each version, its threshold, and which serves."""
    listed = screened.call("models").stdout
    champion = (screened.models / "CHAMPION").read_text().strip()
    (line,) = [line for line in listed.splitlines() if champion in line]
    assert line.startswith("yes")


def test_retry_brings_a_refused_film_back(screened: Site) -> None:
    """A refused film goes back to the inbox and is answered anew, in a row of its own."""
    (before,) = [row for row in screened.results() if row["file_name"] == "text.jpg"]
    said = screened.call("retry", str(before["scan_id"])).stdout
    assert "back in the inbox" in said
    assert (screened.inbox / "text.jpg").read_bytes() == b"hello"
    (screened.inbox / "text.jpg").write_bytes(films.jpeg(films.draw(50)))
    screened.call("run", "--once")
    rows = [row for row in screened.results() if row["file_name"] == "text.jpg"]
    assert [row["refusal_code"] for row in rows] == ["not_a_jpeg", None]
    again = screened.call("retry", str(before["scan_id"]), "nothing.jpg", status=1)
    assert again.stdout == ""
    assert f"{before['scan_id']}: there is no refused scan" in again.stderr
    assert "nothing.jpg: there is no refused scan" in again.stderr
    assert not [path for path in screened.refused.rglob("text*") if path.is_file()]


def test_retry_of_a_film_that_is_refused_again(site: Site) -> None:
    """It lies there once, beside its latest reason, and is one film to whoever retries it."""
    site.drop({"a.jpg": b"hello"})
    site.call("run", "--once")
    assert site.call("retry", "a.jpg").stdout == "scan 1: back in the inbox\n"
    (site.inbox / "a.jpg").write_bytes(bytes(2_000_000))
    site.settings["MAX_MEGABYTES"] = "1"
    site.call("run", "--once")
    first, second = site.results()
    assert [first["refusal_code"], second["refusal_code"]] == ["not_a_jpeg", "too_many_bytes"]
    assert first["filed_as"] is None
    day = site.refused / second["filed_as"].partition("/")[0]
    assert sorted(path.name for path in day.iterdir()) == ["a.jpg", "a.jpg.json"]
    assert json.loads((day / "a.jpg.json").read_bytes())["refusal_code"] == "too_many_bytes"
    assert site.call("retry", "a.jpg").stdout == "scan 2: back in the inbox\n"
    assert list(day.iterdir()) == []
    assert [path.name for path in site.inbox.iterdir()] == ["a.jpg"]


def test_a_database_that_one_may_not_look_for(site: Site) -> None:
    """It is told in a line, and not as if there were none yet."""
    folder = site.root / "locked"
    folder.mkdir(mode=0)
    site.settings["DATABASE_URL"] = f"sqlite:///{folder}/lungwatch.db"
    asked = site.start(command="results", wrapper=without_rights())
    assert asked.wait(60) == 2
    (line,) = site.log().splitlines()
    assert f"cannot look for {folder}/lungwatch.db: Permission denied" in line
    folder.chmod(0o755)


def test_what_a_person_may_ask_that_cannot_be(screened: Site) -> None:
    """It ends with a line, whatever it is."""
    file, locked = screened.root / "a file", screened.root / "locked"
    file.write_bytes(b"x")
    champion = (screened.models / "CHAMPION").read_text().strip()
    for words in (
        ("export", f"{file}/rows.csv"),
        ("report", "-o", f"{file}/page.html"),
        ("explain", "1", "-o", f"{file}/film.png"),
        ("results", "--since", "999999d"),
        ("discard", "--older-than", "999999d"),
    ):
        assert len(screened.call(*words, status=2).stderr.splitlines()) == 1, words
    (screened.archive / "2026-13-45").mkdir()
    assert screened.call("reclaim").stdout.startswith("0 films")
    screened.models.rename(locked)
    screened.settings["MODELS"] = str(locked)
    locked.chmod(0)
    for command in (
        ("models", "show", champion),
        ("models", "verify"),
        ("models", "prune", "--keep", "1"),
    ):
        asked = screened.start(*command[1:], command=command[0], wrapper=without_rights())
        assert asked.wait(60) == 2, command
        assert len(screened.log().splitlines()) == 1, command
        (screened.root / f"worker-{len(screened.processes) - 1}.log").unlink()
    locked.chmod(0o755)


def test_check_passes_on_a_sound_site_and_names_what_is_wrong(
    screened: Site, shipped: Path
) -> None:
    """`check` has a line for each thing; a tampered model fails it with exit status 1."""
    checked = screened.call("check", status=0)
    assert checked.stderr == ""
    sound = checked.stdout
    for words in (
        "settings",
        "inbox",
        "archive",
        "refused",
        "database",
        "migrations",
        "model",
        "fence",
    ):
        assert any(line.startswith("ok") and words in line for line in sound.splitlines()), words
    assert any(line.endswith(GUANGZHOU.sentence) for line in sound.splitlines())
    change_manifest(screened.models / shipped.name, threshold=2.0)
    broken = screened.call("check", status=1).stdout
    (line,) = [line for line in broken.splitlines() if line.startswith("FAILED")]
    assert "model" in line
    assert "threshold" in line


def test_check_tries_what_the_worker_will_do(screened: Site) -> None:
    """Films that are kept where they are need not be movable; a database must take rows."""
    screened.settings["KEEP_IN_INBOX"] = "true"
    screened.inbox.chmod(0o555)
    database = screened.root / "lungwatch.db"
    lines = _checked_without_rights(screened)
    assert lines["inbox"].startswith("ok")
    assert lines["database"].startswith("ok")
    screened.settings["KEEP_IN_INBOX"] = "false"
    database.chmod(0o444)
    lines = _checked_without_rights(screened)
    assert lines["inbox"].startswith("FAILED")
    assert "readonly database" in lines["database"]
    for path in (screened.inbox, database):
        path.chmod(0o755)


def _checked_without_rights(site: Site) -> dict[str, str]:
    """Return the lines of `check`, by what they are about."""
    asked = site.start(command="check", wrapper=without_rights())
    asked.wait(60)
    log = site.root / f"worker-{len(site.processes) - 1}.log"
    return {line.split()[1]: line for line in log.read_text().splitlines()}


@pytest.mark.parametrize("command", ["results", "status"])
def test_output_that_cannot_be_written(screened: Site, command: str) -> None:
    """On a full disk a command ends with a line that says so."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*screened.command, command],
            env=screened.environment,
            cwd=screened.root,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_names_that_an_output_cannot_hold(screened: Site) -> None:
    """They are written escaped: a terminal of few letters is no reason to say nothing."""
    screened.drop({"Фильм.jpg": b"no film"})
    screened.call("run", "--once")
    screened.variables |= {"PYTHONIOENCODING": "latin-1:strict"}
    assert r"\u0424" in screened.call("results", "--refused").stdout


def test_a_model_that_fails_its_checks_never_serves(site: Site, shipped: Path) -> None:
    """With a tampered package and no other, the worker screens nothing and says why."""
    site.call("run", "--once")
    weights = site.models / shipped.name / "model.tflite"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    site.drop(batch(2))
    ended = site.call("run", "--once", status=1)
    assert "model.tflite is not the file named in the manifest" in ended.stdout
    assert site.results() == []
    assert len(list(site.inbox.iterdir())) == 2


def test_the_version_is_that_of_the_project(site: Site) -> None:
    """What is installed says what it is, without a settings file or a database."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert site.call("--version").stdout == f"lungwatch {project['version']}\n"


def test_help_names_every_command(site: Site) -> None:
    """`--help` says what each command is for."""
    told = site.call("--help").stdout
    for command in ("run", "results", "label", "status", "models", "retry", "check"):
        assert command in told
        assert "Usage" in site.call(command, "--help").stdout
