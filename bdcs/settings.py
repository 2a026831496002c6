# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's settings: defaults, then the file, then `BDCS_*` in the environment, then flags."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from bdcs.domain.networks import Network
from bdcs.domain.thresholds import DEFAULT_THRESHOLD, LOWEST_THRESHOLD
from bdcs.errors import ConfigurationError, UnknownSetting
from gentwoo_client.wire.errors import InvalidSegment
from gentwoo_client.wire.segments import check_audience

DEFAULT_FILE: Final = Path("/etc/bdcs/bdcs.toml")
ENVIRONMENT_PREFIX: Final = "BDCS_"
APPROVALS: Final = ("open", "required")
_LOCATION: Final = re.compile(r"/(?:[A-Za-z0-9._-]+/)+")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. `metadata["doc"]` is what docs/configuration.md says."""

    listen: str = field(
        default="127.0.0.1:8642", metadata={"doc": "HOST:PORT to listen on; port 0 takes a free one"}
    )
    public_url: str | None = field(
        default=None,
        metadata={
            "doc": "the URL that machines use, without trailing slash; default: the address listened on"
        },
    )
    data: Path = field(default=Path("/var/lib/bdcs"), metadata={"doc": "directory of the collector's state"})
    store: str = field(
        default="sqlite:", metadata={"doc": "where records live: `sqlite:` (in `data`) or `sqlite:PATH`"}
    )
    trusted_proxies: tuple[Network, ...] = field(
        default=(), metadata={"doc": "networks whose X-Forwarded-For is believed, such as `127.0.0.1/32`"}
    )
    metrics_readers: tuple[Network, ...] = field(
        default=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        metadata={"doc": "networks that may read `/metrics`, which counts exactly; this host by default"},
    )
    threshold: int = field(
        default=DEFAULT_THRESHOLD,
        metadata={"doc": f"machines that a public figure counts at least; not below {LOWEST_THRESHOLD}"},
    )
    approval: str = field(
        default="open",
        metadata={
            "doc": "`open`: whoever registers may send; `required`: an administrator approves each machine"
        },
    )
    registrations_per_network: int = field(
        default=50, metadata={"doc": "new machines a day from one network (/24, or /48 of IPv6)"}
    )
    signer: Path = field(
        default=Path("/run/bdcs-signer/socket"),
        metadata={"doc": "Unix socket of `bdcs signer`, which signs packages"},
    )
    grace: int = field(
        default=30,
        metadata={
            "doc": "days that a withdrawn package stays downloadable, since clients hold older indexes"
        },
    )
    package_size: int = field(
        default=4 << 30, metadata={"doc": "bytes of the largest package that a builder may upload"}
    )
    new_versions: int = field(
        default=90,
        metadata={
            "doc": "days after a machine asked for a package in which its new versions are built unasked;"
            " 0: never"
        },
    )
    accel_redirect: str = field(
        default="",
        metadata={
            "doc": "location of nginx (such as `/internal/`) that has the packages; empty: sent from here"
        },
    )
    tls_certificate: Path | None = field(
        default=None, metadata={"doc": "file with the certificate chain (PEM); with `tls_key`, serves https"}
    )
    tls_key: Path | None = field(
        default=None, metadata={"doc": "file with the certificate's private key (PEM)"}
    )
    log_level: str = field(default="info", metadata={"doc": "`debug`, `info`, `warning` or `error`"})

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


NAMES: Final = tuple(setting.name for setting in fields(Settings))


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None
) -> Settings:
    """Return the settings in force. `flags` that are None do not count; default `file` if it exists.

    Raises `ConfigurationError`; `UnknownSetting` names the nearest known one.
    """
    values: dict[str, Any] = {}
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is not None:
        values.update(_named(_read(path), str(path)))
    given = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    values.update(_named(given, "environment"))
    values.update({name: value for name, value in flags.items() if value is not None})
    checked: dict[str, Any] = {name: _CHECKS[name](name, value) for name, value in values.items()}
    return Settings(**checked)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _named(values: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    for name in values:
        if name not in NAMES:
            nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
            raise UnknownSetting(name, nearest[0] if nearest else None, source)
    return values


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}: {value!r} is no text")
    return value


def _path(name: str, value: Any) -> Path:
    return value if isinstance(value, Path) else Path(_text(name, value))


def _number(name: str, value: Any, least: int) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or number < least:
        raise ConfigurationError(f"{name}: {value!r} is no whole number from {least}")
    return number


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigurationError(f"{name}: {value!r} is none of {', '.join(choices)}")
    return str(value)


def _listen(name: str, value: Any) -> str:
    host, separator, port = _text(name, value).rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{name}: {value!r} is not HOST:PORT")
    return str(value)


def _public_url(name: str, value: Any) -> str:
    try:
        return check_audience(value.rstrip("/") if isinstance(value, str) else value)
    except InvalidSegment as error:
        raise ConfigurationError(f"{name}: {value!r} is {error.reason}") from error


def _networks(name: str, value: Any) -> tuple[Network, ...]:
    texts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise ConfigurationError(f"{name}: {value!r} is no list of networks")
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _location(name: str, value: Any) -> str:
    if value != "" and not (isinstance(value, str) and _LOCATION.fullmatch(value)):
        raise ConfigurationError(f"{name}: {value!r} is no location of nginx such as /internal/")
    return str(value)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "listen": _listen,
    "public_url": _public_url,
    "data": _path,
    "store": _text,
    "trusted_proxies": _networks,
    "metrics_readers": _networks,
    "threshold": lambda name, value: _number(name, value, LOWEST_THRESHOLD),
    "approval": lambda name, value: _choice(name, value, APPROVALS),
    "registrations_per_network": lambda name, value: _number(name, value, 1),
    "signer": _path,
    "grace": lambda name, value: _number(name, value, 0),
    "package_size": lambda name, value: _number(name, value, 1),
    "new_versions": lambda name, value: _number(name, value, 0),
    "accel_redirect": _location,
    "tls_certificate": _path,
    "tls_key": _path,
    "log_level": lambda name, value: _choice(name, value, LOG_LEVELS),
}
