# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the collector. Times are Unix seconds; words are kept as codes (`bdcs.domain.codes`).

machines ─┬─ segments ──── package_state_changes ─┬─ packages
          └─ installations ───────────────────────┼─ versions
                             figures ─────────────┴─ repositories

A machine's changes are found through its segments: those of one have consecutive ids from `first_change`.
targets ─┬─ builds ─── memberships      the binhost: what is in which generation of a target's index
         └─ generations
requests ─── members ─── jobs ─── attempts      builds on request, and what builders made of them
catalogue_repositories ─── catalogue_versions ─── catalogue_packages      what ebuild repositories offer
watches ─── deliveries ─── watch_events      what is told of packages to who watches them
prebuild_cells ─── prebuild_counted      what machines asked for, as published

Foreign keys are documentation: no engine checks them, since ids never come from outside.
"""

from __future__ import annotations

from bdcs.store.tables.binhost import (
    build_numbers,
    builder_targets,
    builds,
    generations,
    memberships,
    removals,
    scanned_files,
    signing_keys,
    target_proposals,
    target_proposers,
    targets,
    tokens,
    trusted_keys,
    uploads,
)
from bdcs.store.tables.building import (
    attempts,
    builders,
    job_dependencies,
    jobs,
    log_pieces,
    members,
    pools,
    prebuild_cells,
    prebuild_counted,
    queue,
    requesters,
    requests,
)
from bdcs.store.tables.catalogue import (
    SEARCH_TABLE,
    catalogue_dependencies,
    catalogue_packages,
    catalogue_repositories,
    catalogue_unreadable,
    catalogue_versions,
    made_metadata,
)
from bdcs.store.tables.collector import answers, event_feeds, leases, outbox, secrets, sequences, tombstones
from bdcs.store.tables.fleet import (
    away_machines,
    figures,
    fleet_figures,
    fleet_members,
    fleet_weeks,
    machine_weeks,
    package_statistics,
    predictions,
    statistic_cells,
    touched_packages,
    version_dates,
)
from bdcs.store.tables.records import (
    audiences,
    dictionaries,
    installations,
    machines,
    package_state_changes,
    packages,
    quarantines,
    repositories,
    segments,
    versions,
)
from bdcs.store.tables.schema import metadata
from bdcs.store.tables.watching import deliveries, leaving, watch_events, watched_packages, watches

__all__ = [
    "SEARCH_TABLE",
    "answers",
    "attempts",
    "audiences",
    "away_machines",
    "build_numbers",
    "builder_targets",
    "builders",
    "builds",
    "catalogue_dependencies",
    "catalogue_packages",
    "catalogue_repositories",
    "catalogue_unreadable",
    "catalogue_versions",
    "deliveries",
    "dictionaries",
    "event_feeds",
    "figures",
    "fleet_figures",
    "fleet_members",
    "fleet_weeks",
    "generations",
    "installations",
    "job_dependencies",
    "jobs",
    "leases",
    "leaving",
    "log_pieces",
    "machine_weeks",
    "machines",
    "made_metadata",
    "members",
    "memberships",
    "metadata",
    "outbox",
    "package_state_changes",
    "package_statistics",
    "packages",
    "pools",
    "prebuild_cells",
    "prebuild_counted",
    "predictions",
    "quarantines",
    "queue",
    "removals",
    "repositories",
    "requesters",
    "requests",
    "scanned_files",
    "secrets",
    "segments",
    "sequences",
    "signing_keys",
    "statistic_cells",
    "target_proposals",
    "target_proposers",
    "targets",
    "tokens",
    "tombstones",
    "touched_packages",
    "trusted_keys",
    "uploads",
    "version_dates",
    "versions",
    "watch_events",
    "watched_packages",
    "watches",
]

for _table in metadata.tables.values():
    for _constraint in _table.foreign_key_constraints:
        _constraint.ddl_if(dialect="sqlite")  # which leaves them unchecked
