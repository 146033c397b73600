"""Settings: where they come from, and one clear line for each that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.imaging.preprocessing import FilmLimits
from worker.settings import PREFIX, Settings, check_folders, read_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin in an empty folder, with no setting in the environment."""
    for name in list(os.environ):
        if name.startswith(PREFIX) or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    """Each setting says what it is for, in a sentence."""
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_what_the_issue_names_is_there() -> None:
    """The settings that sites were promised exist under their names, and work unset."""
    promised = (
        *("inbox", "archive", "refused", "models", "database_url", "settle_seconds"),
        *("scan_seconds", "screeners", "keep_in_inbox"),
    )
    assert set(promised) <= Settings.model_fields.keys()
    settings = read_settings()
    assert settings.inbox == Path("inbox")
    assert not settings.keep_in_inbox
    assert settings.screener_options.count == len(os.sched_getaffinity(0))


def test_limits_are_those_of_preprocessing() -> None:
    """Unset limits are the ones that preprocessing has by itself: one truth."""
    limits, own = read_settings().limits, FilmLimits()
    assert limits == own


def test_the_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment comes before `.env`, and that before the secrets folder."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, value in {
        "database_url": "sqlite:///secret.db",
        "inbox": "s",
        "archive": "s",
    }.items():
        (secrets / f"lungwatch_{name}").write_text(f"{value}\n", encoding="utf-8")
    monkeypatch.setenv("LUNGWATCH_SECRETS", str(secrets))
    (tmp_path / ".env").write_text(
        "LUNGWATCH_INBOX=dotenv\nLUNGWATCH_ARCHIVE=dotenv\nUNRELATED=1\n", encoding="utf-8"
    )
    monkeypatch.setenv("LUNGWATCH_INBOX", "environment")
    settings = read_settings()
    assert settings.inbox == Path("environment")
    assert settings.archive == Path("dotenv")
    assert settings.database_url.get_secret_value() == "sqlite:///secret.db"


def test_credentials_of_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What systemd's LoadCredential hands over is read."""
    (tmp_path / "lungwatch_database_url").write_text("postgresql://u:pw@h/d", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = read_settings()
    assert settings.database_url.get_secret_value() == "postgresql://u:pw@h/d"
    assert "pw" not in repr(settings)


def test_an_empty_setting_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing leaves the default."""
    monkeypatch.setenv("LUNGWATCH_SCAN_SECONDS", "")
    assert read_settings().scan_seconds == Settings.model_fields["scan_seconds"].default


def one_line(error: pytest.ExceptionInfo[SettingsError], *words: str) -> None:
    """Check that an error is one line and has all of these words in it."""
    said = str(error.value)
    assert "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SETTLE_SECONDS", "soon"),
        ("SETTLE_SECONDS", "-1"),
        ("SETTLE_SECONDS", "nan"),
        ("SCAN_SECONDS", "0"),
        ("SCAN_SECONDS", "inf"),
        ("SCREENERS", "1.5"),
        ("SCREENERS", "-2"),
        ("KEEP_IN_INBOX", "perhaps"),
        ("MAX_MEGABYTES", "0"),
        ("MIN_SIDE_PIXELS", "0"),
        ("MIN_CONTRAST", "nan"),
        ("POPULATION", "children of one to five"),
        ("POPULATION", "6.0 to under 1.0 years; City Hospital; its archive"),
        ("LOG_LEVEL", "LOUD"),
        ("WORKER_NAME", "two words"),
    ],
)
def test_a_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong value ends in one line: the setting, what it holds, what would do."""
    monkeypatch.setenv(f"LUNGWATCH_{name}", value)
    with pytest.raises(SettingsError) as error:
        read_settings()
    description = Settings.model_fields[name.lower()].description
    one_line(error, f"LUNGWATCH_{name} is {value!r}", description or "")


def test_a_secrets_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secrets folder that was named and is missing is not passed over in silence."""
    monkeypatch.setenv("LUNGWATCH_SECRETS", "nowhere")
    with pytest.raises(SettingsError) as error:
        read_settings()
    one_line(error, "LUNGWATCH_SECRETS", "nowhere", "Name one")


def test_a_missing_inbox() -> None:
    """The inbox is never made: it may be a share that is not mounted."""
    with pytest.raises(SettingsError) as error:
        check_folders(read_settings())
    one_line(error, "LUNGWATCH_INBOX is 'inbox'", "no such folder", "Make it")
    assert not Path("inbox").exists()


def test_our_own_folders_are_made() -> None:
    """The other folders are made, as deep as they must be."""
    Path("inbox").mkdir()
    settings = read_settings()
    check_folders(settings)
    check_folders(settings)
    assert settings.archive.is_dir()
    assert settings.refused.is_dir()
    assert settings.models.is_dir()


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in whose place a file stands is named, with what is wrong."""
    Path("inbox").mkdir()
    Path("taken").touch()
    monkeypatch.setenv("LUNGWATCH_REFUSED", "taken/refused")
    with pytest.raises(SettingsError) as error:
        check_folders(read_settings())
    one_line(error, "LUNGWATCH_REFUSED is 'taken/refused'", "cannot be made", "Name a folder")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("INBOX", "ARCHIVE"),
        ("INBOX", "REFUSED"),
        ("INBOX", "MODELS"),
        ("ARCHIVE", "REFUSED"),
        ("ARCHIVE", "MODELS"),
        ("REFUSED", "MODELS"),
    ],
)
@pytest.mark.parametrize("spelling", ["same", "same/", "./x/../same", "link"])
def test_two_folders_that_are_one(
    monkeypatch: pytest.MonkeyPatch, one: str, other: str, spelling: str
) -> None:
    """Two settings that name one folder, however it is spelt, are refused, and both are named."""
    for name in ("inbox", "same", "x"):
        Path(name).mkdir()
    Path("link").symlink_to("same")
    monkeypatch.setenv(f"LUNGWATCH_{one}", "same")
    monkeypatch.setenv(f"LUNGWATCH_{other}", spelling)
    with pytest.raises(SettingsError) as error:
        check_folders(read_settings())
    one_line(error, f"LUNGWATCH_{one}", f"LUNGWATCH_{other}", "same", "must be different")


def test_an_inbox_inside_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox inside a folder that we fill is refused."""
    Path("archive/inbox").mkdir(parents=True)
    monkeypatch.setenv("LUNGWATCH_ARCHIVE", "archive")
    monkeypatch.setenv("LUNGWATCH_INBOX", "archive/inbox")
    with pytest.raises(SettingsError) as error:
        check_folders(read_settings())
    one_line(error, "LUNGWATCH_INBOX is 'archive/inbox'", "LUNGWATCH_ARCHIVE", "outside")


def test_an_env_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Settings that somebody wrote are not passed over."""
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        read_settings()
