# SPDX-License-Identifier: GPL-2.0-or-later
"""What manual pages say that no parser and no table says. Indented paragraphs are printed as they are."""

CLIENT_TEXTS = {
    "DESCRIPTION": """
        `gentwoo` tells a collector what Portage merged on this machine, reads the history of it, takes binary
        packages from the collector and has packages built there. The machine is known by a key that
        `gentwoo register` makes; nothing is sent before.

        Commands that need the machine's key or journal become the owner of the state directory when root runs
        them; other users are told which command to use.
        """,
    "ENVIRONMENT": """
        `GENTWOO_CONFIG` names the configuration file; `GENTWOO_` and the name of a setting in capitals
        overrules that setting (see `gentwoo.toml`(5)). `EMERGE_LOG_DIR` is Portage's and says where
        emerge.log is. `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `CREDENTIALS_DIRECTORY` are the service manager's.
        """,
    "FILES": """
        Configuration; key and journal, readable to user gentwoo alone; and the log that is followed:

            /etc/gentwoo/gentwoo.toml
            /var/lib/gentwoo
            /var/log/emerge.log
        """,
    "SEE ALSO": "`gentwoo.toml`(5), `emerge`(1), `portage`(5), `bdcs`(8)",
}

CLIENT_FILE = """
    TOML, in /etc/gentwoo/gentwoo.toml unless `--config` or `GENTWOO_CONFIG` names another file. It holds no
    secret. Later sources win: defaults, this file, the environment (`GENTWOO_` and the name of the setting in
    capitals; lists are separated by blanks or commas), options of the command line. An unknown setting is an
    error that names the nearest known one.

        collector = "https://bdcs.example.org"
        repositories = ["gentoo", "guru"]
        history = "2025-01-01"

    SIGHUP has a running daemon read it again; another `state_dir` needs a restart.
    """

COLLECTOR_TEXTS = {
    "DESCRIPTION": """
        `bdcs` takes signed records of machines, serves what follows from them, and is a host of binary
        packages for Portage. `bdcs serve` is the service; `bdcs signer` is the only process that can use the
        key that packages are signed with, under a user of its own; `bdcs builder` builds what machines ask
        for and has a page of its own, `bdcs-builder`(8). The other commands administer, beside a running
        service.

        Run them as user bdcs, those of `bdcs admin keys` that need the secret key as root or bdcs-signer.
        """,
    "SIGNALS": """
        SIGTERM and SIGINT end a service in order: requests under way are finished. SIGHUP has `bdcs serve`
        read its TLS certificate again; all other settings need a restart.
        """,
    "FILES": """
        Configuration, state (readable to its user alone), and the socket where the signer listens:

            /etc/bdcs/bdcs.toml
            /var/lib/bdcs
            /var/lib/bdcs-signer
            /run/bdcs-signer/socket
        """,
    "SEE ALSO": "`bdcs.toml`(5), `bdcs-builder`(8), `gentwoo`(1), `emerge`(1)",
}

COLLECTOR_FILE = """
    TOML, in /etc/bdcs/bdcs.toml unless `--config` names another file; `bdcs serve` needs none. Later sources
    win: defaults, this file, the environment (`BDCS_` and the name of the setting in capitals; lists are
    separated by blanks or commas), options of the command line. An unknown setting is an error that names the
    nearest known one.

        listen = "127.0.0.1:8642"
        public_url = "https://bdcs.example.org"
        trusted_proxies = ["127.0.0.1/32"]
    """

BUILDER_TEXTS = {
    "FILES": """
        The builder's key, sources and throw-away roots; and where its options stand under OpenRC and systemd:

            /var/lib/bdcs-builder
            /etc/conf.d/bdcs-builder
            /etc/bdcs/builder.env
        """,
    "SEE ALSO": "`bdcs`(8), `emerge`(1), `bwrap`(1)",
}
