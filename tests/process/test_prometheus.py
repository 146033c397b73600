"""What Prometheus is told: of a real worker, in its own words, and only while one runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import films
import pytest
from driver import Site, wait_for
from prometheus_client.parser import text_string_to_metric_families

from worker.monitoring.events import Started, TroubleBegan, TroubleEnded
from worker.monitoring.prometheus import Metrics
from worker.system.trouble import Trouble

pytestmark = pytest.mark.slow

UNITS = Path(__file__).resolve().parents[2] / "systemd"


def numbers(path: Path) -> dict[str, float]:
    """Return every sample of a file by its name and labels, as Prometheus reads it."""
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_of_a_worker(site: Site) -> None:
    """Films by verdict and reason, what waits, which model; gone when the worker is."""
    path = site.root / "lungwatch.prom"
    site.settings |= {"METRICS_FILE": str(path)}
    worker = site.start()
    wait_for(path.exists)
    site.drop(films.small_batch(5) | {"text.jpg": b"hello"})
    site.wait_until_finished(6)
    wait_for(lambda: numbers(path)["lungwatch_refused_total not_a_jpeg"] == 1, every=0.2)
    found = numbers(path)
    rows = site.results()
    for decision in ("NORMAL", "PNEUMONIA", "REVIEW"):
        count = sum(row["decision"] == decision for row in rows)
        assert found[f"lungwatch_screened_total {decision}"] == count
    assert found[f"lungwatch_model_info {rows[-1]['model_version']}"] == 1
    assert path.stat().st_mode & 0o777 == 0o644, "the exporter is another user"
    assert found["lungwatch_backlog_films"] == found["lungwatch_oldest_waiting_seconds"] == 0
    assert 0 < found["lungwatch_stage_seconds_total prepare"] < 60
    assert 0 < found["lungwatch_stage_seconds_total predict"] < 60
    assert 0 <= time.time() - found["lungwatch_last_screened_timestamp_seconds"] < 600
    assert site.stop(worker) == 0
    assert not path.exists()


def test_trouble_is_there_until_it_is_over(tmp_path: Path) -> None:
    """Also while nothing else can be told; and it counts how often it began."""
    path = tmp_path / "lungwatch.prom"
    metrics = Metrics(path)
    metrics.emit(Started(facts={}))
    assert numbers(path)["lungwatch_trouble database"] == 0
    assert "lungwatch_last_screened_timestamp_seconds" not in numbers(path), "no film, no time"
    away = Trouble(kind="database", message="away", since=0.0)
    for _ in range(2):
        metrics.emit(TroubleBegan(trouble=away))
        assert numbers(path)["lungwatch_trouble database"] == 1
        metrics.emit(TroubleEnded(trouble=away, seconds=1.0))
    found = numbers(path)
    assert (found["lungwatch_trouble database"], found["lungwatch_troubles_total database"]) == (
        0,
        2,
    )


def test_a_folder_that_is_not_there_costs_its_numbers_alone(site: Site) -> None:
    """Films are screened all the same."""
    site.settings |= {"METRICS_FILE": str(site.root / "nowhere" / "lungwatch.prom")}
    site.drop(films.small_batch(2))
    site.call("run", "--once")
    assert len(site.results()) == 2


@pytest.mark.parametrize("name", ["prometheus-alerts.yml", "grafana-dashboard.json"])
def test_what_is_asked_for_is_there(name: str, tmp_path: Path) -> None:
    """Alerts and dashboard ask for numbers that a worker gives, and for no others."""
    Metrics(tmp_path / "lungwatch.prom").emit(Started(facts={}))
    text = (tmp_path / "lungwatch.prom").read_text(encoding="utf-8")
    given = set(re.findall(r"^# TYPE (lungwatch_\w+)", text, re.MULTILINE))
    asked = set(re.findall(r"lungwatch_\w+", (UNITS / name).read_text(encoding="utf-8")))
    assert asked
    assert asked <= given
    if name.endswith(".json"):
        assert json.loads((UNITS / name).read_text(encoding="utf-8"))["panels"]


def test_prometheus_finds_nothing_to_object_to() -> None:
    """Its own tool reads the alerts."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    command = ["promtool", "check", "rules", str(UNITS / "prometheus-alerts.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
