# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's settings: what there is, where it comes from, what is allowed.

Later sources win: defaults, the configuration file, `GENTWOO_*` of the environment, flags. The file is TOML,
`/etc/gentwoo/gentwoo.toml` unless `--config` or `GENTWOO_CONFIG` names another. Standard library only, since
every command, `gentwoo history` too, begins here.

`collector` and `history` may also have been chosen when the machine was registered; that choice is kept in
the journal (state keys `collector` and `history`), and counts where no source above says anything: whoever
follows the log or pushes calls `Settings.with_choices` first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gentwoo_client.errors import SettingsError

DEFAULT_CONFIG = Path("/etc/gentwoo/gentwoo.toml")
LOG_LEVELS = ("debug", "info", "warning", "error")
ENVIRONMENT_PREFIX = "GENTWOO_"

DEFAULT = "default"
FLAG = "command line"
REGISTRATION = "chosen at registration"


class Settings(NamedTuple):
    """What is in force, each value checked. `sources` tells where each came from."""

    collector: str | None = None
    """URL of the collector that the records are sent to, exactly as its operator states it (`public_url`). No
    default: `gentwoo register` asks for it."""
    repositories: tuple[str, ...] = ("gentoo", "guru")
    """Ebuild repositories whose packages may be reported; merges from all others stay on this machine.
    `["*"]` allows every one, also packages whose repository is unknown."""
    history: str = "all"
    """How much of what was logged before GenTwoo first ran is sent: `all`, `none`, or a date (`2025-01-01`,
    UTC) from which on it is."""
    eprefix: str = ""
    """The offset of Gentoo Prefix, absolute, as in EPREFIX; empty on an ordinary Gentoo. `log`, `portage_bin`
    and `state_dir` default to places below it."""
    log: Path = Path("/var/log/emerge.log")
    """Portage's log. Defaults to emerge.log in the directory that EMERGE_LOG_DIR of the environment names,
    else to `/var/log/emerge.log` below `eprefix`."""
    portage_bin: Path = Path("/usr/bin")
    """The directory of Portage's commands (emerge, portageq)."""
    state_dir: Path = Path("/var/lib/gentwoo")
    """Where the machine's key and journal are. It belongs to the user that the daemon runs as."""
    log_level: str = "info"
    """How much is told on stderr: `debug`, `info`, `warning` or `error`."""
    sources: Mapping[str, str] = MappingProxyType({})

    @property
    def history_since(self) -> int | None:
        """Unix time from which on the past is sent: 0 for all of it, None for none of it."""
        return history_since(self.history)

    def source(self, name: str) -> str:
        """Where the value of `name` came from: a path, a variable, `FLAG`, `REGISTRATION` or `DEFAULT`."""
        return self.sources.get(name, DEFAULT)

    def with_choices(self, *, collector: str | None, history: str | None) -> Settings:
        """Return the settings with what was chosen at registration, where no other source says anything."""
        chosen: dict[str, Any] = {
            name: value
            for name, value in (("collector", collector), ("history", history))
            if value is not None and self.source(name) == DEFAULT
        }
        sources = {**self.sources, **dict.fromkeys(chosen, REGISTRATION)}
        return self._replace(**chosen, sources=sources)


SETTING_NAMES: Final = tuple(name for name in Settings._fields if name != "sources")
"""What can be set."""


def load_settings(
    flags: Mapping[str, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
) -> Settings:
    """Merge defaults, file, environment and flags, and check every value.

    `flags` are the command line's, None where not given; `config` is `--config`. A file that was named must
    exist; the default one need not. Raises `SettingsError`, which names the place, the key and what is
    allowed.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (
        _from_file(config, environment),
        *_from_environment(environment),
        (FLAG, {name: value for name, value in (flags or {}).items() if value is not None}),
    ):
        for name, value in found.items():
            values[name] = _checked(source, name, value)
            sources[name] = source
    eprefix = values.get("eprefix", "")
    values.setdefault("log", _default_log(eprefix, environment))
    values.setdefault("portage_bin", Path(f"{eprefix}/usr/bin"))
    values.setdefault("state_dir", Path(f"{eprefix}/var/lib/gentwoo"))
    return Settings(**values, sources=sources)


def history_since(history: str) -> int | None:
    """Unix time from which on the past is sent under `history`: 0 for all of it, None for none of it."""
    if history == "all":
        return 0
    if history == "none":
        return None
    from datetime import UTC, datetime

    return int(datetime.fromisoformat(history).replace(tzinfo=UTC).timestamp())


def checked_collector(url: str) -> str:
    """Return `url` without its trailing slash. Raises ValueError where it cannot be a collector's URL."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r} is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https URL such as https://bdcs.example.org")
    if "@" in parts.netloc or parts.query or parts.fragment or any(c.isspace() or ord(c) < 33 for c in url):
        raise ValueError(f"{url!r} must not hold a user, a query, a fragment or spaces")
    from gentwoo_client.wire.errors import InvalidSegment
    from gentwoo_client.wire.segments import check_audience

    try:
        return check_audience(url.rstrip("/"))
    except InvalidSegment:
        raise ValueError(f"{url!r} is not a URL that the protocol allows") from None


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this very machine, so that nobody can read on the way."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked_history(text: str) -> str:
    """Return `text` if it is `all`, `none` or a date. Raises ValueError that says so otherwise."""
    from datetime import date

    if text in ("all", "none"):
        return text
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f'{text!r} is not allowed: "all", "none" or a date such as "2025-01-01"') from None


def _from_file(
    config: str | os.PathLike[str] | None, environment: Mapping[str, str]
) -> tuple[str, Mapping[str, Any]]:
    named = config or environment.get("GENTWOO_CONFIG")
    path = Path(named or DEFAULT_CONFIG)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if named is None:
            return str(path), {}
        raise SettingsError(f"{path}: there is no such file", advice="name another with --config") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    import tomllib

    try:
        return str(path), tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == "GENTWOO_CONFIG":
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in SETTING_NAMES:
            known = ["GENTWOO_CONFIG", *(f"{ENVIRONMENT_PREFIX}{known.upper()}" for known in SETTING_NAMES)]
            raise _unknown("the environment", variable, known)
        found.append((variable, {name: value.replace(",", " ").split() if name == "repositories" else value}))
    return found


def _default_log(eprefix: str, environment: Mapping[str, str]) -> Path:
    directory = environment.get("EMERGE_LOG_DIR") or f"{eprefix}/var/log"
    return Path(directory) / "emerge.log"


def _checked(source: str, name: str, value: object) -> Any:
    if name not in SETTING_NAMES:
        raise _unknown(source, name, SETTING_NAMES)
    try:
        return _CHECKS[name](value)
    except ValueError as error:
        raise SettingsError(f"{source}: {name}: {error}") from None


def _unknown(source: str, name: str, known: tuple[str, ...] | list[str]) -> SettingsError:
    from difflib import get_close_matches

    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    return SettingsError(f"{source}: unknown setting {name}: {hint}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value


def _collector(value: object) -> str:
    return checked_collector(_text(value))


def _history(value: object) -> str:
    return checked_history(value.isoformat() if hasattr(value, "isoformat") else _text(value))


def _repositories(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(f'{value!r} is not a list of names such as ["gentoo", "guru"]; ["*"] allows all')
    if "*" in value and len(value) > 1:
        raise ValueError('"*" allows all repositories and must stand alone')
    return tuple(value)


def _path(value: object) -> Path:
    text = _text(value)
    if not text:
        raise ValueError("is empty; a path is needed")
    if "\0" in text:
        raise ValueError(f"{text!r} cannot be a path")
    return Path(text).absolute()


def _eprefix(value: object) -> str:
    text = _text(value).rstrip("/")
    if "\0" in text:
        raise ValueError(f"{text!r} cannot be a path")
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


def _log_level(value: object) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"{value!r} is not allowed: one of {', '.join(LOG_LEVELS)}")
    return str(value)


_CHECKS = {
    "collector": _collector,
    "repositories": _repositories,
    "history": _history,
    "eprefix": _eprefix,
    "log": _path,
    "portage_bin": _path,
    "state_dir": _path,
    "log_level": _log_level,
}
