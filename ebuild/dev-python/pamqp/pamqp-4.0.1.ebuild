# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=hatchling
PYTHON_COMPAT=( python3_{12..15} )

inherit distutils-r1 pypi

DESCRIPTION="RabbitMQ focused AMQP low-level library"
HOMEPAGE="
	https://github.com/gmr/pamqp/
	https://pypi.org/project/pamqp/
"

LICENSE="BSD"
SLOT="0"
KEYWORDS="~amd64 ~arm64"
