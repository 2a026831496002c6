# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo daemon`: follow the log and send what happens, as a service or detached by hand."""

from __future__ import annotations

import argparse
import os

from gentwoo_client.errors import DONE
from gentwoo_client.settings import Settings, load_settings

NAME = "daemon"
HELP = "follow the log and send what happens, until told to stop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `daemon`."""
    parser.description = (
        "Follow emerge.log into the journal and send new records to the collector, in the foreground, as "
        "OpenRC and systemd want it. SIGTERM and SIGINT end it in order; SIGHUP reads the configuration "
        "again."
    )
    parser.add_argument("--log", metavar="FILE", help="the log (default: the setting)")
    parser.add_argument(
        "--detach", action="store_true", help="go to the background; messages then go to syslog"
    )
    parser.add_argument(
        "--check", action="store_true", help="only see whether it could start, and say why not"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Follow the log until a signal ends it; return 0. Errors say what somebody has to do (78)."""
    from gentwoo_client.daemon import run_daemon
    from gentwoo_client.privileges import enter_state_directory

    enter_state_directory(settings.state_dir)
    if arguments.check:
        _check(settings)
        return DONE
    flags = {
        "log": str(settings.log) if arguments.log else None,
        "state_dir": str(settings.state_dir) if arguments.state_dir else None,
        "log_level": arguments.log_level,
    }
    config = os.path.abspath(arguments.config) if arguments.config else None
    options = _child_options(settings, config)
    if arguments.detach:
        _detach(settings)
        options.append("--syslog")

    def reload() -> Settings:
        return load_settings(flags, config=config)

    run_daemon(settings, reload=reload, options=options)
    return DONE


def _child_options(settings: Settings, config: str | None) -> list[str]:
    options = ["--state-dir", str(settings.state_dir), "--log-level", settings.log_level]
    return options if config is None else ["--config", config, *options]


def _check(settings: Settings) -> None:
    """See that this machine is registered as the settings want it. Raises `NotConfigured`."""
    from gentwoo_client.journal import Journal
    from gentwoo_client.registration import current_registration

    journal = Journal.open(settings.state_dir)
    try:
        current_registration(journal.get, settings)
    finally:
        journal.close()


def _detach(settings: Settings) -> None:
    """Go to the background, after everything that a person should see was checked."""
    import daemon

    from gentwoo_client.cli import messages
    from gentwoo_client.locks import READER, exclusive_lock

    with exclusive_lock(settings.state_dir, READER):
        _check(settings)
    if "GENTWOO_CONFIG" in os.environ:
        os.environ["GENTWOO_CONFIG"] = os.path.abspath(os.environ["GENTWOO_CONFIG"])
    messages.to_syslog()
    daemon.DaemonContext(
        umask=0o077, working_directory=str(settings.state_dir), detach_process=True, signal_map={}
    ).open()
