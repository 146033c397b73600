"""The page of what was screened: it says what the rows say, and asks nothing of anybody."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import films
import pytest
from driver import Site

from worker.model.population import GUANGZHOU

pytestmark = pytest.mark.slow

ODD = "<script>alert(1)</script> & \x1b[31mfilm.jpg"


@pytest.fixture
def screened(any_site: Site) -> Site:
    """Return a place where films were screened, one with an odd name and one refused."""
    pictures = films.small_batch(8)
    first = next(iter(pictures))
    pictures[ODD.replace("/", "_")] = pictures.pop(first)
    any_site.drop(pictures | {"text.jpg": b"hello"})
    any_site.call("run", "--once")
    return any_site


def words(page: str) -> str:
    """Return what a person reads on a page."""
    inside = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", inside).split()))


def test_it_says_what_the_rows_say(screened: Site) -> None:
    """Films by day, the worklist in its order, refusals with their meaning, the model."""
    path = screened.root / "page.html"
    screened.call("report", "-o", str(path), "--pictures", "2")
    page = path.read_text(encoding="utf-8")
    rows = screened.results()
    counts = Counter(row["decision"] or "REFUSED" for row in rows)
    told = words(page)
    day = str(rows[0]["screened_at"])[:10]
    kinds = ("PNEUMONIA", "REVIEW", "NORMAL", "REFUSED")
    assert f"{day} {' '.join(str(counts[kind]) for kind in kinds)}" in told
    wanted = [row for row in rows if row["decision"] in ("PNEUMONIA", "REVIEW")]
    assert wanted, "the drawn films are to be suspicious"
    order = sorted(wanted, key=lambda row: (-row["probability"], row["scan_id"]))
    listed = page.split("<h2>Worklist</h2>")[1].split("</table>")[0]
    numbers = [int(one) for one in re.findall(r'<tr><td class="number">(\d+)', listed)]
    assert numbers == [row["scan_id"] for row in order]
    assert "not_a_jpeg 1 The file is not a JPEG" in told
    assert rows[0]["model_version"] in told
    assert "sensitivity" in told
    assert GUANGZHOU.sentence in told
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == min(2, len(wanted))
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in images)


def test_it_is_alone_and_obeys_nobody(screened: Site) -> None:
    """No address, no script, and a file's name is words."""
    path = screened.root / "page.html"
    screened.call("report", "-o", str(path))
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|\x1b", page)
    screened.call("report", "-o", str(path), "--force", "--no-names")
    without = path.read_text(encoding="utf-8")
    for row in screened.results():
        assert html.escape(row["file_name"]) not in without
    for film in [one for one in screened.archive.rglob("*") if one.is_file()]:
        film.unlink()
    screened.call("report", "-o", str(path), "--force", "--no-names", "--pictures", "9")
    without = path.read_text(encoding="utf-8")
    assert "its film cannot be shown" in without
    for row in screened.results():
        assert html.escape(row["file_name"]) not in without
    assert "exists: use --force" in screened.call("report", "-o", str(path), status=2).stderr


def test_a_film_called_like_the_id_of_another_takes_no_picture_away(any_site: Site) -> None:
    """The page names films by their ids, whatever strangers call theirs."""
    pictures = films.small_batch(4)
    names = [*pictures, *"1234"]
    more = films.small_batch(8).values()
    any_site.drop(dict(zip(names, more, strict=True)))
    any_site.call("run", "--once")
    path = any_site.root / "page.html"
    any_site.call("report", "-o", str(path), "--pictures", "9")
    wanted = [row for row in any_site.results() if row["decision"] in ("PNEUMONIA", "REVIEW")]
    assert path.read_text(encoding="utf-8").count("data:image/png") == len(wanted) > 0


def test_nothing_came(site: Site) -> None:
    """A quiet week has its page too."""
    site.call("run", "--once")
    site.call("report", "-o", str(site.root / "page.html"))
    told = words((site.root / "page.html").read_text(encoding="utf-8"))
    for said in ("No film was screened", "Nothing to look at", "Nothing was refused"):
        assert said in told


@pytest.mark.slow
def test_in_a_browser(screened: Site, tmp_path: Path) -> None:
    """A real one shows the table as it is meant, and makes pages of it for paper."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    path = screened.root / "page.html"
    screened.call("report", "-o", str(path), "--pictures", "3")
    headless = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
    headless.append(f"--user-data-dir={tmp_path / 'profile'}")
    dom = subprocess.run(
        [*headless, "--dump-dom", path.as_uri()], capture_output=True, text=True, check=True
    ).stdout
    assert "<script" not in dom
    assert words(path.read_text(encoding="utf-8")) == words(dom)
    paper = tmp_path / "page.pdf"
    subprocess.run(
        [*headless, f"--print-to-pdf={paper}", path.as_uri()], capture_output=True, check=True
    )
    assert paper.read_bytes().startswith(b"%PDF")
