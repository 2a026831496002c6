# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=uv-build
PYTHON_COMPAT=( python3_{12..15} )

inherit distutils-r1 pypi

DESCRIPTION="Wrapper around aiormq for asyncio and humans"
HOMEPAGE="
	https://github.com/mosquito/aio-pika/
	https://pypi.org/project/aio-pika/
"

LICENSE="Apache-2.0"
SLOT="0"
KEYWORDS="~amd64 ~arm64"

RDEPEND="
	dev-python/aiormq[${PYTHON_USEDEP}]
	dev-python/yarl[${PYTHON_USEDEP}]
"
