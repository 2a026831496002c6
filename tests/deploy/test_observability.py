# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules and dashboard against a real Prometheus that watches a real collector, where something happened."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.places import ROOT
from tests.builds import CHOST, TARGET, HandBuilder, Wisher, specification
from tests.ebuild_repositories import Tree
from tests.peer import request
from tests.processes import Collector, Process, free_port, run
from tests.signing import running_signer, short_directory
from tests.waiting import until

pytestmark = pytest.mark.engines

OBSERVABILITY = ROOT / "deploy/observability"
METRIC = re.compile(r"\b(?:bdcs|process)_[a-z_0-9]+|\bup\b")
RECORDED = re.compile(r"\b[a-z_]+:[a-z_]+:[a-z0-9_]+\b")
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
SELECTED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
ADDED = frozenset({"job", "instance", "le", "alertstate"})
"""Labels that Prometheus and its rules add."""
NOTHING = frozenset(
    {
        "Bus",
        "Failed",
        "Leases of periodic work end in",
        "Pools in trouble",
        "Pools of builders",
        "TLS certificates expire in",
    }
)
"""Panels that one collector without TLS, broker and pools, to which nothing bad happens, leaves empty."""


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((OBSERVABILITY / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Title and query of everything on the dashboard, with its variables filled in."""
    dashboard = json.loads((OBSERVABILITY / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$job", "bdcs").replace("$instance", ".*")


QUERIES = [*panels(), *((rule["alert"], rule["expr"]) for rule in rules("alerts.yml"))]
OF_THE_HOST = "CommitsSlow|DiskFills|DiskNearlyFull|EventLoopLate|FilesRunOut|CollectorDown|ClockSkewed"
"""Alerts that may be right about a machine on which tests run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A collector and its Prometheus."""

    collector: Collector
    prometheus: str
    metrics: str
    """What the collector showed in the end."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers. Raises `AssertionError` where it does not understand the question."""
        url = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        assert document["status"] == "success", document
        result = document["data"]["result"]
        return result if isinstance(result, list) else []


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("observability")
    with short_directory() as directory, running_signer(directory) as signer:
        signer.create_key("--name", "Packages")
        config = home / "bdcs.toml"
        config.write_text(f'signer = "{signer.socket}"\n')
        with Collector(home / "collector", options=["--config", str(config)]) as collector:
            something_happens(collector, home)
            port = free_port()
            with Process(prometheus(home, collector, port), log=home / "prometheus.log"):
                url = f"http://127.0.0.1:{port}"
                until(lambda: has_seen_enough(url), what=f"rates in Prometheus: {home}/prometheus.log")
                metrics = request(collector.url, "GET", "/metrics").body.decode()
                yield Watched(collector=collector, prometheus=url, metrics=metrics)


def something_happens(collector: Collector, home: Path) -> None:
    """Pushes, one refused; builds, of which one is published, one fails and one waits; a repository."""
    collector.bdcs(
        *("target", "add", TARGET, "--chost", CHOST, "--profile", "default/linux/amd64/23.0"),
        *("--cflags", "-O2"),
    )
    Tree.create(home / "repository", "other").add("app-misc/delta-1.0")
    collector.bdcs("repository", "add", "other", "--location", str(home / "repository"))
    wisher = Wisher(collector.url)
    wisher.register()
    assert wisher.push(3).status == 200
    stranger = Wisher(collector.url)
    assert stranger.send(stranger.signed(stranger.payload(1))).status == 404
    builder = HandBuilder.approved(collector, TARGET)
    wisher.ask(*(specification(f"app-misc/{name}-1.0") for name in ("alpha", "beta", "gamma")))
    lease = until(builder.claim)
    assert lease is not None
    assert builder.build(lease).status == 200
    lease = until(builder.claim)
    assert lease is not None
    assert builder.act(lease, "fail", kind="build", text="no").status == 200
    assert request(collector.url, "GET", "/packages").status == 200


def prometheus(home: Path, collector: Collector, port: int) -> list[str]:
    """The command that watches with our own configuration, but more often than anybody needs."""
    configuration = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    often = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    configuration["global"] = dict.fromkeys(often, "3s")
    configuration["rule_files"] = [str(OBSERVABILITY / name) for name in configuration["rule_files"]]
    del configuration["alerting"]
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"][0]["targets"] = [collector.url.removeprefix("http://")]
    file = home / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    return [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def has_seen_enough(url: str) -> bool:
    """Whether there are rates, also those of rules that are worked out from others."""
    last = "job:bdcs_push_seconds:p99_5m and on (job) bdcs_catalogue_read_timestamp_seconds"
    asked = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': last})}"
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bool(json.load(answer)["data"]["result"])
    except OSError:
        return False


def test_rules_and_configuration_pass_promtool() -> None:
    run(["promtool", "check", "config", OBSERVABILITY / "prometheus.yml"], check=True)
    run(["promtool", "test", "rules", "alerts.test.yml"], cwd=OBSERVABILITY, check=True)


def test_what_the_collector_shows_is_as_prometheus_wants_it(watched: Watched, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    file.write_text(watched.metrics)
    done = run(["sh", "-c", f"promtool check metrics < {file}"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_panel_shows_something(watched: Watched) -> None:
    empty = {title for title, expression in panels() if not watched.query(expression)}
    assert empty <= NOTHING


def test_each_recorded_series_is_there(watched: Watched) -> None:
    missing = {rule["record"] for rule in rules("recording.yml") if not watched.query(rule["record"])}
    assert missing <= {"job:bdcs_requests_failed:ratio5m"}  # nothing failed


def test_nothing_fires_at_a_collector_that_is_well(watched: Watched) -> None:
    for rule in rules("alerts.yml"):
        watched.query(rule["expr"])
    assert watched.query(f'ALERTS{{alertstate="firing",alertname!~"{OF_THE_HOST}"}}') == []


def test_each_query_names_metrics_and_labels_that_are_there(watched: Watched) -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules("recording.yml")}
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", watched.metrics, re.MULTILINE))
    for _, expression in (*QUERIES, *recorded.items()):
        asked = expression
        while RECORDED.search(asked):
            asked = RECORDED.sub(lambda found: f"({recorded[found[0]]})", asked)
        series = [family_of(metric, families) for metric in METRIC.findall(re.sub(r'"[^"]*"', '""', asked))]
        assert series or expression.startswith("count(ALERTS"), expression
        assert None not in series, expression
        labels = {label for metric in series if metric for label in documented_labels(metric)}
        said = {label.strip() for group in GROUPING.findall(asked) for label in group.split(",")}
        assert said | set(SELECTED.findall(asked)) <= labels | ADDED, expression


def family_of(metric: str, families: dict[str, str]) -> str | None:
    """The name under which `/metrics` declares it."""
    if metric == "up":
        return ""
    bare = re.sub(r"_(bucket|sum|count)$", "", metric)
    if families.get(bare) == "histogram":
        return bare
    return metric if metric in families else None


def documented_labels(metric: str) -> list[str]:
    """The labels that docs/metrics.md tells of."""
    text = (ROOT / "docs/metrics.md").read_text()
    found = re.search(rf"^\| `{metric}(?:{{([^}}]*)}})?` \|", text, re.MULTILINE)
    return re.findall(r"\w+", found[1] or "") if found else []


def test_every_metric_and_label_is_documented(watched: Watched) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    told = set(re.findall(r"^\| `(bdcs_\w+)", text, re.MULTILINE))
    families = dict(re.findall(r"^# TYPE (bdcs_\S+) (\S+)$", watched.metrics, re.MULTILINE))
    assert told == set(families)
    for name, labels in re.findall(r"^(bdcs_\w+)\{(.*)\} ", watched.metrics, re.MULTILINE):
        family = family_of(name, families)
        assert family is not None
        shown = set(re.findall(r"(\w+)=\"", labels)) - {"le"}
        assert shown == set(documented_labels(family)), name
