#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes ./secrets with what compose.yaml names: passwords, what contains them, and a certificate for localhost, signed by
# itself. What is there already stays. Only this user can enter the directory; the files in it are readable, since users
# of containers have other numbers.
set -eu

cd -- "$(dirname -- "$0")"
umask 077
mkdir -p secrets
cd secrets

new() {
	[ -e "$1" ] && return 1
	cat > ".$1.new"
	chmod 0444 ".$1.new"
	mv -- ".$1.new" "$1"
}

random() {
	od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

random | new postgresql-password || true
random | new s3-password || true
printf gentwoo | new s3-user || true
if [ ! -e bus-url ]; then
	password=$(random)
	printf '%s' "{\"users\": [{\"name\": \"gentwoo\", \"password\": \"$password\", \"tags\": []}],
\"vhosts\": [{\"name\": \"/\"}],
\"permissions\": [{\"user\": \"gentwoo\", \"vhost\": \"/\", \"configure\": \".*\", \"write\": \".*\", \"read\": \".*\"}]}" | new rabbitmq-definitions || true
	printf 'amqp://gentwoo:%s@rabbitmq/%%2F' "$password" | new bus-url
fi
if [ ! -e certificate ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
		-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out certificate.pem 2>/dev/null
	cat certificate.pem key.pem | new certificate
	rm -f key.pem
fi
