# SPDX-License-Identifier: GPL-2.0-or-later
"""The Vagrantfile: run by Ruby against a stand-in for Vagrant; and its scripts, as far as they run here."""

import ipaddress
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from bdcs.settings import load_settings
from dev.places import ROOT
from tests.deploy.documents import DEPLOY, parse
from tests.deploy.proxied import NGINX, Certificate, edit
from tests.nginx import PROGRAM
from tests.processes import free_port, run

pytestmark = pytest.mark.engines

VAGRANT = DEPLOY / "vagrant"
STUB = Path(__file__).parent / "vagrant_stub.rb"
SCRIPTS = ("collector.sh", "client.sh")


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    """What it tells Vagrant."""
    run(["ruby", "-c", VAGRANT / "Vagrantfile"], check=True)
    document: dict[str, Any] = json.loads(run(["ruby", STUB, VAGRANT / "Vagrantfile"], check=True).stdout)
    return document


def machines(declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["arguments"][0]: each["block"]["vm"] for each in declared["vm"]["define"]}


def test_a_collector_and_a_client_on_one_private_network(declared: dict[str, Any]) -> None:
    found = machines(declared)
    assert list(found) == ["collector", "client"]
    assert found["collector"]["box"].startswith("debian/")
    assert found["client"]["box"] == "generic/gentoo"
    addresses = {}
    for name, machine in found.items():
        assert re.fullmatch(r"\d[\d.]+", machine["box_version"]), "one that stays what it is"
        kinds = {each["arguments"][0]: each["options"] for each in machine["network"]}
        addresses[name] = ipaddress.ip_address(kinds["private_network"]["ip"])
        assert ipaddress.ip_address(
            kinds.get("forwarded_port", {"host_ip": "127.0.0.1"})["host_ip"]
        ).is_loopback
        providers = {each["arguments"][0]: each["block"] for each in machine["provider"]}
        assert providers["virtualbox"] == providers["libvirt"]
        (script,) = machine["provision"]
        assert script["options"] == {"path": f"{name}.sh", "args": [str(addresses["collector"])]}
    assert len(set(addresses.values())) == 2
    assert len({ipaddress.ip_network((each, 24), strict=False) for each in addresses.values()}) == 1
    assert all(each in ipaddress.ip_network("192.168.56.0/21") for each in addresses.values()), (
        "VirtualBox's own"
    )


def test_it_has_the_tree_and_no_environment_of_this_host(declared: dict[str, Any]) -> None:
    folders = {each["arguments"][1]: each for each in declared["vm"]["synced_folder"]}
    assert folders["/vagrant"]["options"] == {"disabled": True}
    assert (VAGRANT / folders["/gentwoo"]["arguments"][0]).resolve() == ROOT
    assert folders["/gentwoo"]["options"]["type"] == "rsync"


def test_a_broken_one_is_found(tmp_path: Path) -> None:
    text = (VAGRANT / "Vagrantfile").read_text()
    broken = tmp_path / "Vagrantfile"
    broken.write_text(text.replace('  config.vm.define "client" do |client|', ""))
    assert run(["ruby", "-c", broken]).returncode != 0
    broken.write_text(text.replace("COLLECTOR]", "COLECTOR]"))
    assert run(["ruby", STUB, broken]).returncode != 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound_and_what_they_name_is_there(script: str) -> None:
    path = VAGRANT / script
    run(["bash", "-n", path], check=True)
    assert path.stat().st_mode & stat.S_IXUSR
    text = path.read_text()
    assert "set -euo pipefail" in text
    for name in re.findall(r"[\s(]/gentwoo/([\w./-]+)", text):
        assert name.startswith("dist/") or (ROOT / name.rstrip("/")).exists(), name


def test_the_collectors_settings_and_commands(declared: dict[str, Any], tmp_path: Path) -> None:
    text = (VAGRANT / "collector.sh").read_text()
    name = re.search(r"^name=(\S+)$", text, re.MULTILINE)
    document = re.search(r"bdcs\.toml <<END\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
    assert name
    assert document
    file = tmp_path / "bdcs.toml"
    file.write_text(document[1].replace("$name", name[1]))
    settings = load_settings({}, {}, file)
    assert settings.public_url == f"https://{name[1]}"
    (forwarded,) = [
        each["options"]
        for each in machines(declared)["collector"]["network"]
        if each["arguments"] == ["forwarded_port"]
    ]
    assert settings.address == ("0.0.0.0", forwarded["guest"])
    assert f"name={name[1]}" in (VAGRANT / "client.sh").read_text()
    for command in re.findall(r"^\S.*\|\| bdcs (.+)$", text, re.MULTILINE):
        assert parse(command.replace("$name", name[1]).split())


def test_nginx_takes_what_the_script_makes_of_its_files(tmp_path: Path) -> None:
    """The very commands of the script, in another directory."""
    text = (VAGRANT / "collector.sh").read_text()
    commands = re.findall(r"^sed -i .*$", text, re.MULTILINE)
    assert len(commands) == 2
    home = tmp_path / "nginx"
    shutil.copytree(NGINX, home)
    script = "name=collector.gentwoo.test\n" + "\n".join(commands).replace("/etc/nginx", str(home))
    run(["bash", "-euc", script], check=True)
    assert re.findall(r"^ +server +(\S+)", (home / "gentwoo/collectors.conf").read_text(), re.MULTILINE) == [
        "127.0.0.1:8642"
    ]
    assert "example.org" not in "".join(
        line.partition("#")[0] for line in (home / "gentwoo/site.conf").read_text().splitlines()
    )
    certificate = str(Certificate.create(tmp_path).file)
    changes = {"/etc/ssl/bdcs.pem": certificate, "/etc/ssl/bdcs.key": certificate}
    ports = {"443": str(free_port()), "80;": f"{free_port()};", "/var/log/nginx": str(home)}
    edit(home / "gentwoo/site.conf", {**changes, **ports})
    edit(home / "nginx.conf", {"/run/nginx.pid": str(home / "pid")})
    assert PROGRAM is not None
    run([PROGRAM, "-t", "-e", "stderr", "-c", home / "nginx.conf"], check=True)
