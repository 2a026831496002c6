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

from bdcs.domain import targets
from bdcs.domain.build_policy import SHORTEST_LEASE, BuildPolicy, Keeping
from bdcs.domain.capacity_pools import Pool, pools
from bdcs.domain.networks import Network
from bdcs.domain.thresholds import DEFAULT_THRESHOLD, LOWEST_THRESHOLD
from bdcs.errors import ConfigurationError, TargetRefused, UnknownSetting
from gentwoo_client.wire.errors import InvalidSegment
from gentwoo_client.wire.segments import check_audience

DEFAULT_FILE: Final = Path("/etc/bdcs/bdcs.toml")
ENVIRONMENT_PREFIX: Final = "BDCS_"
APPROVALS: Final = ("open", "required", "closed")
PROPOSALS: Final = ("accept", "ask", "refuse")
FILES: Final = "file:"
MEMORY: Final = "memory:"
NOTIFY: Final = "postgresql:"
REDIRECT: Final = "redirect"
SEND: Final = "send"
_BUCKET: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._-]+)*/?")
_BROKER: Final = re.compile(
    r"amqps?://(?:[^\s/?#@:]+(?::[^\s/?#@]*)?@)?(?:[^\s/?#@:\[\]]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?(?:/[^\s/?#]*)?"
    r"(?:\?[^\s#]*)?"
)
_HTTP_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
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
        default="sqlite:",
        metadata={
            "doc": "where records live: `sqlite:` (in `data`), `sqlite:PATH`, or `postgresql://HOST/DATABASE`"
        },
    )
    blobs: str = field(
        default=FILES,
        metadata={
            "doc": "where package files live: `file:` (in `data`; for one collector) or `s3://BUCKET/PREFIX`"
        },
    )
    s3_endpoint: str | None = field(
        default=None, metadata={"doc": "URL of an S3 service; default: that of AWS for the region"}
    )
    s3_region: str | None = field(
        default=None, metadata={"doc": "region of the bucket; default: what AWS's own configuration says"}
    )
    s3_download: str = field(
        default=REDIRECT,
        metadata={
            "doc": "how clients get packages that are in S3: `redirect` (a signed URL of the bucket), `send`"
            " (through the collector), or the URL of a CDN that has what is below `PREFIX/packages/`"
        },
    )
    bus: str = field(
        default=MEMORY,
        metadata={
            "doc": "how several collectors wake each other: `memory:` (there is one), `postgresql:` (by the"
            " database of the store), or the URL of a RabbitMQ, `amqp://USER:PASSWORD@HOST/VHOST`, which then"
            " gets the event feed, too"
        },
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
            "doc": "`open`: whoever registers may send; `required`: an administrator approves each machine;"
            " `closed`: no machine may newly register"
        },
    )
    registrations_per_network: int = field(
        default=50, metadata={"doc": "new machines a day from one network (/24, or /48 of IPv6)"}
    )
    records_per_network: int = field(
        default=2_000_000,
        metadata={"doc": "records a day from one network, after which it is asked to come back tomorrow"},
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
    prebuild: int = field(
        default=0,
        metadata={
            "doc": "minutes of builders a day, at each target, for what is likely to be asked for, while"
            " nothing else is to be built; 0: never"
        },
    )
    lease: int = field(
        default=60,
        metadata={"doc": "seconds that a builder has a job without being heard of before another gets it"},
    )
    failure_hours: int = field(
        default=24, metadata={"doc": "hours for which it is remembered that a package cannot be built"}
    )
    trouble_minutes: int = field(
        default=60,
        metadata={"doc": "minutes for which it is remembered that a source or a dependency could not be had"},
    )
    open_requests: int = field(
        default=100, metadata={"doc": "requests of one machine that may wait for builds at a time"}
    )
    open_packages: int = field(
        default=5000, metadata={"doc": "packages that one machine may wait for at a time"}
    )
    requests_per_day: int = field(
        default=1000, metadata={"doc": "requests for builds that one machine may make in 24 hours"}
    )
    uploads_per_machine: int = field(
        default=500, metadata={"doc": "packages that one builder may have in quarantine at a time"}
    )
    quarantine: int = field(
        default=7, metadata={"doc": "days that an uploaded package waits to be published"}
    )
    upload_timeout: int = field(
        default=60, metadata={"doc": "seconds in which the next MiB of an upload has to arrive"}
    )
    log_size: int = field(
        default=64 << 20, metadata={"doc": "bytes that are kept of the log of one attempt at a build"}
    )
    keep_logs: int = field(
        default=30, metadata={"doc": "days that the logs of builds which succeeded are kept"}
    )
    keep_failed_logs: int = field(
        default=90, metadata={"doc": "days that the logs of all other builds are kept"}
    )
    keep_requests: int = field(default=180, metadata={"doc": "days that ended requests and jobs are kept"})
    keep_builders: int = field(
        default=30, metadata={"doc": "days after which a builder that is not heard of any more is forgotten"}
    )
    builder: tuple[str, ...] = field(
        default=(),
        metadata={
            "doc": "targets that `bdcs serve` runs a builder for itself; `*`: those that Portage of this host"
            " would build for"
        },
    )
    builder_eprefix: Path | None = field(
        default=None, metadata={"doc": "the Gentoo Prefix that it builds in; default: this system"}
    )
    builder_options: tuple[str, ...] = field(
        default=(), metadata={"doc": "further options of that `bdcs builder`, such as `--jobs=2`"}
    )
    capacity: tuple[Pool, ...] = field(
        default=(),
        metadata={
            "doc": "pools of builders that `bdcs autoscale` starts and stops, such as"
            " `amd64=asg:GROUP?max=20`"
        },
    )
    capacity_total: int = field(
        default=0,
        metadata={"doc": "builders of all pools that may be there at a time; 0: what the pools allow"},
    )
    capacity_wait: int = field(
        default=10,
        metadata={"doc": "minutes that builds may take longer than they need, before builders are started"},
    )
    proposals: str = field(
        default="ask",
        metadata={
            "doc": "what becomes of targets that machines propose: `accept`, `ask` (an administrator),"
            " or `refuse`"
        },
    )
    accel_redirect: str = field(
        default="",
        metadata={
            "doc": "location of nginx (such as `/internal/`) that has the packages; empty: sent from here"
        },
    )
    webhook_hosts: tuple[str, ...] = field(
        default=(),
        metadata={
            "doc": "hosts, addresses and networks of your own that webhooks may go to besides public ones,"
            " such as `hooks.intranet` or `10.0.0.0/8`"
        },
    )
    drain: int = field(
        default=0,
        metadata={
            "doc": "seconds that a collector which is told to stop goes on answering while `/readyz` says"
            " 503, so that a proxy sends nothing more"
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

    @property
    def build_policy(self) -> BuildPolicy:
        """The rules that requests and jobs follow."""
        return BuildPolicy(
            lease=self.lease,
            lasting=self.failure_hours * 3600,
            passing=self.trouble_minutes * 60,
            open_requests=self.open_requests,
            open_packages=self.open_packages,
            requests_per_day=self.requests_per_day,
        )

    @property
    def keeping(self) -> Keeping:
        """For how long what has ended is kept: no shorter than new versions follow from it."""
        return Keeping(
            logs=self.keep_logs,
            failed_logs=self.keep_failed_logs,
            requests=max(self.keep_requests, self.new_versions),
            builders=self.keep_builders,
        )


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


def _targets(name: str, value: Any) -> tuple[str, ...]:
    words = _words(name, value)
    for word in words:
        if word != targets.EVERY_FITTING:
            try:
                targets.check("name", word)
            except TargetRefused as error:
                raise ConfigurationError(f"{name}: {error}") from error
    return words


def _words(name: str, value: Any) -> tuple[str, ...]:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ConfigurationError(f"{name}: {value!r} is no list of words")
    return tuple(words)


def _location(name: str, value: Any) -> str:
    if value != "" and not (isinstance(value, str) and _LOCATION.fullmatch(value)):
        raise ConfigurationError(f"{name}: {value!r} is no location of nginx such as /internal/")
    return str(value)


def _blobs(name: str, value: Any) -> str:
    if value != FILES and not (isinstance(value, str) and _BUCKET.fullmatch(value)):
        raise ConfigurationError(f"{name}: {value!r} is neither {FILES} nor s3://BUCKET/PREFIX")
    return str(value)


def _bus(name: str, value: Any) -> str:
    if value not in (MEMORY, NOTIFY) and not (isinstance(value, str) and _BROKER.fullmatch(value)):
        wanted = f"{MEMORY}, {NOTIFY} or amqp://USER:PASSWORD@HOST/VHOST, percent-encoded"
        raise ConfigurationError(f"{name}: not {wanted}")  # it may hold a password, and is not shown
    return str(value)


def _http_url(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _HTTP_URL.fullmatch(value):
        raise ConfigurationError(f"{name}: {value!r} is no URL")
    return value.rstrip("/")


def _download(name: str, value: Any) -> str:
    return str(value) if value in (REDIRECT, SEND) else _http_url(name, value)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "listen": _listen,
    "public_url": _public_url,
    "data": _path,
    "store": _text,
    "blobs": _blobs,
    "bus": _bus,
    "s3_endpoint": _http_url,
    "s3_region": _text,
    "s3_download": _download,
    "trusted_proxies": _networks,
    "metrics_readers": _networks,
    "threshold": lambda name, value: _number(name, value, LOWEST_THRESHOLD),
    "approval": lambda name, value: _choice(name, value, APPROVALS),
    "registrations_per_network": lambda name, value: _number(name, value, 1),
    "records_per_network": lambda name, value: _number(name, value, 1),
    "signer": _path,
    "grace": lambda name, value: _number(name, value, 0),
    "package_size": lambda name, value: _number(name, value, 1),
    "new_versions": lambda name, value: _number(name, value, 0),
    "prebuild": lambda name, value: _number(name, value, 0),
    "lease": lambda name, value: _number(name, value, SHORTEST_LEASE),
    "failure_hours": lambda name, value: _number(name, value, 0),
    "trouble_minutes": lambda name, value: _number(name, value, 0),
    "open_requests": lambda name, value: _number(name, value, 1),
    "open_packages": lambda name, value: _number(name, value, 1),
    "requests_per_day": lambda name, value: _number(name, value, 1),
    "uploads_per_machine": lambda name, value: _number(name, value, 1),
    "quarantine": lambda name, value: _number(name, value, 1),
    "upload_timeout": lambda name, value: _number(name, value, 1),
    "log_size": lambda name, value: _number(name, value, 1),
    "keep_logs": lambda name, value: _number(name, value, 1),
    "keep_failed_logs": lambda name, value: _number(name, value, 1),
    "keep_requests": lambda name, value: _number(name, value, 1),
    "keep_builders": lambda name, value: _number(name, value, 1),
    "builder": _targets,
    "builder_eprefix": _path,
    "builder_options": _words,
    "capacity": lambda name, value: pools(_words(name, value)),
    "capacity_total": lambda name, value: _number(name, value, 0),
    "capacity_wait": lambda name, value: _number(name, value, 1),
    "proposals": lambda name, value: _choice(name, value, PROPOSALS),
    "accel_redirect": _location,
    "webhook_hosts": _words,
    "drain": lambda name, value: _number(name, value, 0),
    "tls_certificate": _path,
    "tls_key": _path,
    "log_level": lambda name, value: _choice(name, value, LOG_LEVELS),
}
