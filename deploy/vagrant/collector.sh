#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The virtual machine `collector`: bdcs serve and bdcs signer as services, https by nginx with a certificate of its own.
# May be run again.
set -euo pipefail

address=$1
name=collector.gentwoo.test

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends git gpg gpg-agent nginx-light openssl python3-venv rsync wget

wheels=(/gentwoo/dist/gentwoo-*.whl)
[[ -e ${wheels[0]} ]] || { echo "run \`make dist\` on the host first, then \`vagrant rsync\`" >&2; exit 1; }
[[ -d /opt/gentwoo ]] || python3 -m venv /opt/gentwoo
/opt/gentwoo/bin/pip install --quiet --require-hashes -r /gentwoo/deploy/container/requirements.lock
/opt/gentwoo/bin/pip install --quiet --no-deps --no-index --force-reinstall "${wheels[0]}"
ln -sf /opt/gentwoo/bin/bdcs /usr/bin/bdcs

install -m 0644 /gentwoo/systemd/bdcs.sysusers /etc/sysusers.d/bdcs.conf
install -m 0644 /gentwoo/systemd/bdcs.tmpfiles /etc/tmpfiles.d/bdcs.conf
systemd-sysusers bdcs.conf
systemd-tmpfiles --create bdcs.conf
install -m 0644 -t /etc/systemd/system /gentwoo/systemd/bdcs.service /gentwoo/systemd/bdcs-signer.service

install -d -m 0755 /etc/bdcs
cat > /etc/bdcs/bdcs.toml <<END
listen = "0.0.0.0:8642"
public_url = "https://$name"
trusted_proxies = ["127.0.0.1/32"]
END

# gentwoo takes plain http from loopback alone, so there is a certificate, signed by itself.
if [[ ! -e /etc/ssl/private/bdcs.key ]]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=$name" \
		-addext "subjectAltName=DNS:$name,IP:$address" -keyout /etc/ssl/private/bdcs.key -out /etc/ssl/bdcs.pem
	ln -s private/bdcs.key /etc/ssl/bdcs.key
fi
rm -rf /etc/nginx/gentwoo
cp -r /gentwoo/deploy/nginx/nginx.conf /gentwoo/deploy/nginx/gentwoo /etc/nginx/
sed -i "s/bdcs\.example\.org/$name/" /etc/nginx/gentwoo/site.conf
sed -i -e 's/10\.0\.0\.11:8642/127.0.0.1:8642/' -e '/10\.0\.0\.12:8642/d' /etc/nginx/gentwoo/collectors.conf
nginx -t

[[ -d /var/lib/bdcs-signer/private-keys-v1.d ]] || bdcs admin keys create --email packages@$name
systemctl daemon-reload
systemctl enable --now bdcs-signer.service bdcs.service
systemctl restart bdcs-signer.service bdcs.service nginx.service

for _ in {1..60}; do
	if wget --quiet --output-document=/dev/null http://127.0.0.1:8642/readyz; then
		echo "the collector is ready: https://$name, and http://127.0.0.1:8642 on the host"
		exit 0
	fi
	sleep 1
done
journalctl --unit=bdcs.service --lines=30 >&2
exit 1
