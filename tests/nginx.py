# SPDX-License-Identifier: GPL-2.0-or-later
"""A real nginx of one process on loopback, with a configuration and files of its own."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.processes import Process, free_port
from tests.waiting import until

PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

_FRAME = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
{locations}
    }}
}}
"""


class Nginx(Process):
    """Serves `locations` (text of a `server` block) until its `with` block ends."""

    def __init__(self, home: Path, locations: str, *, port: int = 0, prefix: Sequence[str] = ()) -> None:
        """`prefix`: a command that runs it, such as taskset."""
        assert PROGRAM is not None, "nginx is missing: make setup names the package"
        port = port or free_port()
        home.mkdir(parents=True, exist_ok=True)
        configuration = home / "nginx.conf"
        configuration.write_text(_FRAME.format(home=home, port=port, locations=locations))
        self.url = f"http://127.0.0.1:{port}"
        command: list[str | Path] = [*prefix, PROGRAM, "-e", "stderr", "-p", home, "-c", configuration]
        super().__init__(command, log=home / "nginx.log")
        until(lambda: (home / "nginx.pid").exists() or self._ended())

    def _ended(self) -> bool:
        assert self.is_running(), self.output
        return False
