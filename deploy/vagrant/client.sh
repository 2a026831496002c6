#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The virtual machine `client`: a Gentoo whose merges the collector is told of. May be run again.
set -euo pipefail

address=$1
name=collector.gentwoo.test

archives=(/gentwoo/dist/gentwoo-*.tar.gz)
[[ -e ${archives[0]} ]] || { echo "run \`make dist\` on the host first, then \`vagrant rsync\`" >&2; exit 1; }

[[ -d /var/db/repos/gentoo/profiles ]] || emerge-webrsync --quiet
ln -sfn /gentwoo /var/db/repos/gentwoo
install -D -m 0644 /gentwoo/ebuild/repos.conf /etc/portage/repos.conf/gentwoo.conf
distdir=$(portageq envvar DISTDIR)
install -D -m 0644 -t "$distdir" "${archives[0]}"

# The collector may be made at the same time. Its certificate is trusted at first sight: between two virtual machines on one
# host nobody stands in the middle.
grep -q " $name\$" /etc/hosts || echo "$address $name" >> /etc/hosts
install -d /usr/local/share/ca-certificates
for _ in {1..120}; do
	openssl s_client -connect "$name:443" -servername "$name" </dev/null 2>/dev/null |
		openssl x509 -out /usr/local/share/ca-certificates/gentwoo.crt 2>/dev/null && break
	sleep 5
done
update-ca-certificates

install -d /etc/gentwoo
echo "collector = \"https://$name\"" > /etc/gentwoo/gentwoo.toml
emerge --quiet --noreplace --getbinpkg --autounmask --autounmask-continue app-portage/gentwoo
emerge --config app-portage/gentwoo

if [[ -d /run/systemd/system ]]; then
	systemctl enable --now gentwoo.service
else
	rc-update add gentwoo default
	rc-service gentwoo --ifnotstarted start
fi

emerge --quiet --oneshot app-misc/hello
gentwoo status
