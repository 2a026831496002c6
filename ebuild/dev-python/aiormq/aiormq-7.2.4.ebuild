# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=uv-build
PYTHON_COMPAT=( python3_{12..15} )

inherit distutils-r1 pypi

DESCRIPTION="Pure Python AMQP asynchronous client library"
HOMEPAGE="
	https://github.com/mosquito/aiormq/
	https://pypi.org/project/aiormq/
"

LICENSE="Apache-2.0"
SLOT="0"
KEYWORDS="~amd64 ~arm64"

RDEPEND="
	dev-python/pamqp[${PYTHON_USEDEP}]
	dev-python/yarl[${PYTHON_USEDEP}]
"
