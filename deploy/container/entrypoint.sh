#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Secrets come as files, as Compose, Kubernetes and Mesos hand them over: what NAME_FILE names becomes NAME. Only those
# that bdcs, libpq and boto3 take from their environment.
set -eu

for name in BDCS_BUS BDCS_STORE PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN; do
	eval "file=\${${name}_FILE:-}"
	[ -n "$file" ] || continue
	value=$(cat -- "$file")
	export "$name=$value"
	unset "${name}_FILE"
done

exec "$@"
