# SPDX-License-Identifier: GPL-2.0-or-later
"""What records leave installed."""

from bdcs.domain.codes import FAILURE, INSTALL, UNINSTALL
from bdcs.domain.installations import effects

M, P, REPOSITORY = 1, "dev-libs/a", "gentoo"


def test_an_upgrade_leaves_the_new_version() -> None:
    changes = [
        (INSTALL, M, P, "1", None, REPOSITORY, 10),
        (UNINSTALL, M, P, "1", None, REPOSITORY, 20),
        (INSTALL, M, P, "2", "1", REPOSITORY, 21),
    ]
    assert effects(changes) == {(M, P, "1"): None, (M, P, "2"): (21, REPOSITORY)}


def test_a_rebuild_leaves_the_version_it_replaced() -> None:
    changes = [(UNINSTALL, M, P, "1", None, None, 20), (INSTALL, M, P, "1", "1", REPOSITORY, 21)]
    assert effects(changes) == {(M, P, "1"): (21, REPOSITORY)}


def test_what_an_install_replaces_is_gone_without_a_record_of_its_own() -> None:
    assert effects([(INSTALL, M, P, "2", "1", None, 5)]) == {(M, P, "1"): None, (M, P, "2"): (5, None)}


def test_two_slots_stay_side_by_side() -> None:
    changes = [(INSTALL, M, P, "1", None, None, 1), (INSTALL, M, P, "2", None, None, 2)]
    assert effects(changes) == {(M, P, "1"): (1, None), (M, P, "2"): (2, None)}


def test_a_failure_changes_nothing() -> None:
    assert effects([(FAILURE, M, P, "1", None, None, 1)]) == {}


def test_machines_are_kept_apart() -> None:
    changes = [(INSTALL, 1, P, "1", None, None, 1), (UNINSTALL, 2, P, "1", None, None, 2)]
    assert effects(changes) == {(1, P, "1"): (1, None), (2, P, "1"): None}
