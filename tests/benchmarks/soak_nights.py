"""Nights of every kind on real films, beside a worker that is under load all the while.

    python tests/benchmarks/soak_nights.py [--kills 30] [--rate 5] [--epochs 3] [--folder DIR]

Needs `shared/data` beside the checkout, or where LUNGWATCH_TEST_DATA says. Films of full size come
at a steady rate, each unique; a third of the training films lies in a tree, the others are dropped
into the inbox and labelled later; the nights that are killed have 400 of them. Prints a line for
each night, what it should have come to and what it came to, and in the end how long a film took
with a night under way and without.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import films
from driver import Site, wait_for
from swaps import check_rows_are_of_their_models, report, serves

from worker.model.registry import Registry

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_DATA = Path(os.environ.get("LUNGWATCH_TEST_DATA") or _REPOSITORY.parent / "shared" / "data")
_TREE = _DATA / "chest_xray"
_CLASSES = ("NORMAL", "PNEUMONIA")


@dataclass
class Load:
    """Drops films of full size at a steady rate, and remembers when it dropped each."""

    site: Site
    rate: float  # films a second
    dropped: dict[str, float] = field(default_factory=dict)  # name -> wall clock
    told: dict[str, tuple[Path, bytes]] = field(default_factory=dict)  # name -> film, comment
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Let films come while the block runs."""
        thread = threading.Thread(target=self._drop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _drop(self) -> None:
        pictures = sorted((_DATA / "originals").rglob("*.jpeg"))
        aside = self.site.root / "coming"
        aside.mkdir()
        due = time.monotonic()
        for number in itertools.count():
            due += 1 / self.rate
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            picture, comment = pictures[number % len(pictures)], b"load %d" % number
            name = f"load-{number:06}.jpeg"
            (aside / name).write_bytes(films.with_comment(picture.read_bytes(), comment))
            self.told[name] = (picture, comment)
            self.dropped[name] = time.time()
            (aside / name).rename(self.site.inbox / name)


@dataclass
class Week:
    """The nights, and when each was under way."""

    site: Site
    epochs: int
    nights: list[tuple[float, float]] = field(default_factory=list)
    quiet: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    killed: int = 0  # nights that were ended in the middle

    def command(self, tree: Path, *options: str) -> list[str]:
        """Return a night's command line."""
        cache = self.site.root / "cache"
        return [
            *(sys.executable, "-m", "training.retrain"),
            *("--data", str(tree), "--cache", str(cache), "--drop-conflicts", *options),
        ]

    def night(
        self, what: str, wanted: str, tree: Path, *options: str, kill_after: float | None = None
    ) -> str:
        """Run a night, to its end or until it is killed, and return what it said last."""
        began = time.time()
        with subprocess.Popen(
            self.command(tree, *options),
            env=self.site.environment,
            cwd=_REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=kill_after)
            except subprocess.TimeoutExpired:
                process.kill()  # SIGKILL, to it alone: what it started must end by itself
                said, _ = process.communicate()
        ended = time.time()
        self.nights.append((began, ended))
        lines = [line for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else "nothing said"
        killed = process.returncode == -signal.SIGKILL
        self.killed += killed
        outcome = "killed" if killed else f"exit {process.returncode}: {last[:110]}"
        self.check(
            f"{what}: {outcome} ({ended - began:.1f} s)", wanted in ("", outcome[: len(wanted)])
        )
        with (self.site.root / "nights.log").open("a", encoding="utf-8") as log:
            log.write(f"== {what}\n{said}\n")
        return said

    def rest(self, seconds: float) -> None:
        """Let films come without a night."""
        began = time.time()
        time.sleep(seconds)
        self.quiet.append((began, time.time()))

    def check(self, what: str, so: object) -> None:
        """Print a line, and remember it if it should not be so."""
        print(f"{time.strftime('%H:%M:%S')} {'ok ' if so else 'BAD'} {what}", flush=True)
        if not so:
            self.failures.append(what)

    def check_models(self, what: str) -> None:
        """Every package that a reader sees is whole, one serves, and nothing is half-made."""
        registry = Registry(self.site.models)
        listed = registry.versions()
        bad = [v for v in listed if self.site.call("models", "verify", v, status=None).returncode]
        champion = registry.serving()
        took = time.monotonic()
        wait_for(lambda: serves(self.site, champion), what=f"{champion} serves")
        took = time.monotonic() - took
        left = list(_left_over(self.site))
        half = [path.name for path in self.site.models.iterdir() if path.name.startswith(".")]
        told = f"{what}: {len(listed)} packages, {champion} serves after {took:.1f} s"
        self.check(f"{told}; bad {bad}, aside {half}, left over {left}", not bad and not left)


def _left_over(site: Site) -> Iterator[int]:
    """Find processes that a night of this site started and that outlived it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            ours = os.fsencode(site.root) in (folder / "environ").read_bytes()
        except OSError:
            continue
        if ours and (b"training" in command or b"spawn_main" in command):
            yield int(folder.name)


def main(asked: argparse.Namespace) -> int:
    """Let the week pass."""
    with tempfile.TemporaryDirectory(prefix="lungwatch-nights-") as scratch:
        root = Path(asked.folder or scratch)
        root.mkdir(parents=True, exist_ok=True)
        settings = {"SETTLE_SECONDS": "0", "SCREENERS": "2", "PREVIEW_SCANS": "200"}
        site = Site(root, settings=settings)
        week = Week(site, asked.epochs)
        load = Load(site, asked.rate)
        worker = site.start()
        try:
            wait_for(lambda: report(site).get("model"), what="a model serves")
            with load.flowing():
                week.rest(asked.quiet)  # how long a film usually takes
                _story(week, asked)
                week.rest(asked.quiet)
            archived = len(list(_two_thirds()))
            site.wait_until_finished(len(load.dropped) + archived)
            site.stop(worker)
            _check_rows(site, load, week, archived)
            _print_times(site, load, week)
        finally:
            site.end()
        print("\n".join(["failures:", *week.failures]) if week.failures else "no failures")
    return bool(week.failures)


def _story(week: Week, asked: argparse.Namespace) -> None:
    site = week.site
    third = _tree(site.root / "third", _thirds()[0])
    first = ("--from", "scratch", "--epochs", str(asked.epochs))
    said = week.night("first, from nothing", "exit 0", third, *first)
    made = said.splitlines()[-1].rsplit("/", 1)[-1]
    week.night("nothing new", "exit 0: unchanged", third, *first)
    site.call("models", "promote", made, "--why", "a weak champion, so that others can be better")
    week.check_models("promoted by hand")
    few = random.Random(6).sample(_thirds()[0], 400)  # so that thirty nights take no night
    _kills(week, _tree(site.root / "few", few), asked)
    _labels(week, third)
    _leak(week)
    before = Registry(site.models).serving()
    site.call("models", "rollback", "--why", "to show it")
    after = Registry(site.models).serving()
    week.check(f"rolled back from {before} to {after}", before != after)
    week.check_models("after the rollback")


def _kills(week: Week, tree: Path, asked: argparse.Namespace) -> None:
    """Kill nights at random moments, and let a clean one follow each."""
    generator = random.Random(3)
    seconds = asked.night_seconds
    for number in itertools.count(1):
        if week.killed == asked.kills:
            break
        options = ("--epochs", "1", "--seed", str(100 + number))
        moment = generator.uniform(0.5, seconds)
        week.night(f"{number} killed at {moment:.1f} s", "", tree, *options, kill_after=moment)
        began = time.monotonic()
        week.night(f"{number} clean", "exit 0", tree, *options)
        seconds = max(seconds / 2, time.monotonic() - began)  # it went on from the killed one
        week.check_models(f"{number} after")
        if number % 5 == 1:
            week.rest(asked.quiet / 6)


def _labels(week: Week, tree: Path) -> None:
    """Let readers label archived films: rightly, wrongly, and rightly again."""
    site, epochs = week.site, ("--epochs", str(week.epochs))
    for path, _ in _two_thirds():
        aside = site.root / "coming" / path.name
        shutil.copyfile(path, aside)
        aside.rename(site.inbox / path.name)
    truth = {path.name: label for path, label in _two_thirds()}
    wait_for(lambda: truth.keys() <= _names(site), every=2, seconds=900, what="all have rows")
    _label(site, truth, by="reader")
    week.night("new labels", "exit 0: promoted", tree, *epochs)
    week.check_models("after new labels")

    generator = random.Random(4)
    shuffled = list(truth.values())
    generator.shuffle(shuffled)
    _label(site, dict(zip(truth, shuffled, strict=True)), by="mistaken")
    mixed = [label for _, label in _thirds()[0]]
    generator.shuffle(mixed)
    wrong = [(path, label) for (path, _), label in zip(_thirds()[0], mixed, strict=True)]
    week.night("shuffled labels", "exit 0: held", _tree(site.root / "wrong", wrong), *epochs)
    _label(site, truth, by="reader")


def _names(site: Site) -> set[str]:
    return {row["file_name"] for row in site.results()}


def _leak(week: Week) -> None:
    """Put test films among the training films: the night must stop with a list."""
    site = week.site
    leaking = _tree(site.root / "leaking", _thirds()[0])
    for path in sorted((_TREE / "test" / "NORMAL").iterdir())[:5]:
        shutil.copyfile(path, leaking / "train" / "NORMAL" / f"copy-of-{path.name}")
    command = [option for option in week.command(leaking) if option != "--drop-conflicts"]
    done = subprocess.run(
        command, env=site.environment, cwd=_REPOSITORY, capture_output=True, text=True, check=False
    )
    week.check(f"leak: exit {done.returncode}", done.returncode == 1)
    print(done.stdout)


def _label(site: Site, labels: dict[str, str], *, by: str) -> None:
    """Label what was screened: a film that was refused cannot be."""
    screened = {row["file_name"] for row in site.results() if row["refusal_code"] is None}
    labels = {name: label for name, label in labels.items() if name in screened}
    path = site.root / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("scan", "label", "by"), *((*it, by) for it in labels.items())])
    site.call("label", "--csv", str(path))


def _thirds() -> list[list[tuple[Path, str]]]:
    """Split the training films by patient, as their names tell them, in three."""
    thirds: list[list[tuple[Path, str]]] = [[], [], []]
    for label in _CLASSES:
        for path in sorted((_TREE / "train" / label).iterdir()):
            patient = path.name.rsplit("-" if label == "NORMAL" else "_", 1)[0]
            thirds[random.Random(patient).randrange(3)].append((path, label))
    return thirds


def _two_thirds() -> Iterator[tuple[Path, str]]:
    return itertools.chain(*_thirds()[1:])


def _tree(root: Path, labelled: Sequence[tuple[Path, str]]) -> Path:
    """Lay a tree of these training films and the whole test folder."""
    for path, label in labelled:
        folder = root / "train" / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    shutil.copytree(_TREE / "test", root / "test")
    return root


def _check_rows(site: Site, load: Load, week: Week, archived: int) -> None:
    rows = site.results()
    loaded = [row for row in rows if row["file_name"] in load.dropped]
    once = len(rows) == len({row["file_name"] for row in rows}) == len(load.dropped) + archived
    week.check(f"{len(rows)} films, each with one row", once)
    some = random.Random(5).sample(loaded, min(300, len(loaded)))
    told = ((name, *load.told[name]) for name in {row["file_name"] for row in some})
    data = {name: films.with_comment(path.read_bytes(), comment) for name, path, comment in told}
    check_rows_are_of_their_models(site, data, rows=some)
    models = len({row["model_version"] for row in rows})
    print(f"{len(some)} of their rows, by {models} models, say what their model says")


def _print_times(site: Site, load: Load, week: Week) -> None:
    """Print what a film took, with a night under way and in the quiet minutes without."""
    kinds = (("without a night", week.quiet), ("beside a night", week.nights))
    slowest = []
    for name, spans in kinds:
        whole, held = _times(site, load, spans)
        print(f"{name}: {len(whole)} films, ms from the drop to the row: {_spread(whole)}")
        print(f"{name}: {len(held)} films, ms from the claim to the row: {_spread(held)}")
        slowest.append(statistics.quantiles(held, n=100)[94])
    ratio = slowest[1] / slowest[0]
    week.check(
        f"95th percentile from claim to row, beside a night to without: {ratio:.2f}", ratio < 2
    )


def _times(
    site: Site, load: Load, spans: Sequence[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Return milliseconds of films dropped in these spans: from the drop, and from the claim."""
    whole, held = [], []
    for row in site.results():
        dropped = load.dropped.get(row["file_name"], 0.0)
        if any(begin <= dropped <= end for begin, end in spans):
            screened = _seconds(row["screened_at"])
            whole.append(1000 * (screened - dropped))
            held.append(1000 * (screened - _seconds(row["received_at"])))
    return whole, held


def _seconds(moment: datetime | str) -> float:
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()


def _spread(times: Sequence[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"median {cuts[49]:.0f}, 95th percentile {cuts[94]:.0f}, longest {max(times):.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--rate", type=float, default=5.0, help="films a second")
    parser.add_argument("--epochs", type=int, default=3, help="of the nights that are not killed")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds without a night")
    parser.add_argument("--night-seconds", type=float, default=40.0, help="of a killed night")
    parser.add_argument("--folder", help="keep everything there")
    sys.exit(main(parser.parse_args()))
