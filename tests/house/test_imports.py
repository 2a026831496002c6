# SPDX-License-Identifier: GPL-2.0-or-later
"""The arrows between the parts point down only (docs/decisions and the README draw them)."""

import subprocess
import sys

import pytest

from tests.house.sources import Import, imports, modules

WIRE = "gentwoo_client.wire"
PREDICTION = "gentwoo_client.prediction"
VERSION = "gentwoo_client.version"
NOTIFY = "gentwoo_client.notify"

# What each module of the wire protocol may import beside the standard library and the wire protocol itself.
WIRE_LIBRARIES = {"cryptography", "jwt"}
WIRE_MESSAGES_LIBRARIES = {"pydantic", "pydantic_core"}
WIRE_MESSAGES = {f"{WIRE}.messages", f"{WIRE}.build_messages"}

BUILDER_SHARES = (
    "gentwoo_client.collector_api",
    "gentwoo_client.errors",
    "gentwoo_client.machine_key",
    "gentwoo_client.binhost.keyring",
)

# The collector's layers; each may import those with a smaller number, and itself.
LAYERS = {
    "bdcs.__main__": 9,
    "bdcs.cli": 8,
    "bdcs.server": 7,
    "bdcs.web": 6,
    "bdcs.services": 5,
    "bdcs.store": 4,
    "bdcs.blobs": 4,
    "bdcs.bus": 4,
    "bdcs.signer": 4,
    "bdcs.builder": 4,
    "bdcs.capacity": 4,
    "bdcs.openpgp": 3,
    "bdcs.service_manager": 3,
    "bdcs.privileges": 3,
    "bdcs.settings": 3,
    "bdcs.domain": 2,
    "bdcs.measures": 1,
    "bdcs.errors": 1,
    "bdcs": 0,
}


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def layer(module: str) -> str:
    """The name in LAYERS that `module` belongs to: the longest that fits."""
    return max((name for name in LAYERS if is_in(module, name)), key=len)


def test_wire_is_a_leaf() -> None:
    wrong = [arrow for arrow in imports(WIRE.replace(".", "/")) if not allowed_in_wire(arrow)]
    assert not wrong, "\n".join(map(str, wrong))


def allowed_in_wire(arrow: Import) -> bool:
    library = arrow.imported.partition(".")[0]
    return (
        is_standard(arrow.imported)
        or is_in(arrow.imported, WIRE)
        or (library in WIRE_LIBRARIES and not arrow.at_top)
        or (library in WIRE_LIBRARIES | WIRE_MESSAGES_LIBRARIES and arrow.importer in WIRE_MESSAGES)
        or type_checking(arrow)
    )


def type_checking(arrow: Import) -> bool:
    """Whether the import stands under `if TYPE_CHECKING:`, where it costs nothing at run time."""
    lines = modules(arrow.importer.partition(".")[0])[arrow.importer].read_text().splitlines()
    before = reversed(lines[: arrow.line - 1])
    head = next((line for line in before if line and not line.startswith((" ", "\t"))), "")
    return lines[arrow.line - 1].startswith(" ") and head.startswith("if TYPE_CHECKING")


def test_importing_wire_imports_nothing() -> None:
    assert not [arrow for arrow in imports("gentwoo_client/wire") if arrow.importer == WIRE]


def test_prediction_is_a_leaf_of_the_standard_library() -> None:
    wrong = [
        arrow
        for arrow in imports("gentwoo_client/prediction")
        if not is_standard(arrow.imported) and not is_in(arrow.imported, PREDICTION)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_client_never_imports_the_collector() -> None:
    assert not [str(arrow) for arrow in imports("gentwoo_client") if is_in(arrow.imported, "bdcs")]


def test_the_collector_uses_only_the_shared_parts_of_the_client() -> None:
    wrong = [
        arrow
        for arrow in imports("bdcs")
        if is_in(arrow.imported, "gentwoo_client")
        and not any(is_in(arrow.imported, shared) for shared in (WIRE, PREDICTION, VERSION, NOTIFY))
        and not (is_in(arrow.importer, "bdcs.builder") and is_for_builders(arrow.imported))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def is_for_builders(module: str) -> bool:
    """What builders share with the client besides: they are machines of the collector."""
    return any(is_in(module, shared) for shared in BUILDER_SHARES)


def test_the_layers_of_the_collector_point_down() -> None:
    wrong = [
        arrow
        for arrow in imports("bdcs")
        if is_in(arrow.imported, "bdcs") and not points_down(layer(arrow.importer), layer(arrow.imported))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def points_down(importer: str, imported: str) -> bool:
    return importer == imported or LAYERS[imported] < LAYERS[importer]


def test_every_module_of_the_collector_has_a_layer() -> None:
    tops = {".".join(name.split(".")[:2]) for name in modules("bdcs")}
    assert tops <= LAYERS.keys()


INSIDE_PORTAGE = "gentwoo_client.portage.inside_portage"


def test_nothing_of_ours_imports_portage() -> None:
    """Portage is called, never imported: it belongs to another interpreter, and its API changes."""
    arrows = [*imports("gentwoo_client"), *imports("bdcs")]
    importers = {arrow.importer for arrow in arrows if is_in(arrow.imported, "portage")}
    assert importers == {INSIDE_PORTAGE}


def test_what_runs_inside_portage_stands_alone() -> None:
    """It is run by Portage's own interpreter, which has nothing of ours."""
    arrows = [*imports("gentwoo_client"), *imports("bdcs")]
    assert not [str(arrow) for arrow in arrows if is_in(arrow.imported, INSIDE_PORTAGE)]
    wrong = [
        str(arrow)
        for arrow in arrows
        if arrow.importer == INSIDE_PORTAGE
        and not is_standard(arrow.imported)
        and not is_in(arrow.imported, "portage")
    ]
    assert not wrong


RESIDENT = (
    "gentwoo_client.__main__",
    "gentwoo_client.cli",
    "gentwoo_client.cli.daemon",
    "gentwoo_client.daemon",
    "gentwoo_client.follow",
)
HISTORY = ("gentwoo_client.cli", "gentwoo_client.cli.history", "gentwoo_client.history")
HEAVY = {"aiohttp", "aiosqlite", "asyncio", "cryptography", "jwt", "pydantic", "ssl"}


@pytest.mark.parametrize(
    ("what", "imported"), [("daemon", RESIDENT), ("history", HISTORY)], ids=["daemon", "history"]
)
def test_what_must_stay_small_imports_nothing_heavy(what: str, imported: tuple[str, ...]) -> None:
    """The resident daemon and `gentwoo history`: memory and start-up time are promises."""
    program = f"import {', '.join(imported)}, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY & set(loaded), what
