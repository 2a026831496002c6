# SPDX-License-Identifier: GPL-2.0-or-later
# A builder: a Gentoo with Portage, its repository, bubblewrap and `bdcs builder`, which builds packages as this very
# system is. CHOST, profile and CFLAGS therefore have to be the target's: one image for each target.
#
#   podman build -f deploy/container/Containerfile.builder --ignorefile deploy/container/.containerignore \
#       --build-arg PROFILE=default/linux/amd64/23.0 -t localhost/gentwoo-builder:0.1.0 .
#
# Build it anew as often as its repository is to be current, once a day say: builds take what the image has.

FROM docker.io/gentoo/portage:20261116 AS portage

FROM docker.io/gentoo/stage3:amd64-openrc-20261116
ARG PROFILE=default/linux/amd64/23.0
COPY --from=portage /var/db/repos/gentoo /var/db/repos/gentoo
RUN eselect profile set "$PROFILE" \
    && emerge --quiet --getbinpkg --oneshot sys-apps/bubblewrap \
    && rm -rf /var/cache/distfiles/* /var/cache/binpkgs/*
WORKDIR /source
COPY deploy/container/requirements.lock ./
RUN python3 -m venv /opt/gentwoo && /opt/gentwoo/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY gentwoo_client /opt/gentwoo/source/gentwoo_client
COPY bdcs /opt/gentwoo/source/bdcs
COPY --chmod=0755 deploy/container/entrypoint.sh /usr/local/bin/entrypoint
RUN printf '#!/bin/sh\nexec /opt/gentwoo/bin/python -m bdcs "$@"\n' > /usr/local/bin/bdcs && chmod 0755 /usr/local/bin/bdcs
ENV PYTHONPATH=/opt/gentwoo/source PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/bdcs-builder
STOPSIGNAL SIGTERM
# Root, who sets owners as emerge in a whole system does, and mounts overlays. What it builds is locked up by bubblewrap.
USER 0:0
ENTRYPOINT ["/usr/local/bin/entrypoint", "bdcs", "builder"]
