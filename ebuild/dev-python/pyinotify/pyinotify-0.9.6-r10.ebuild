# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=setuptools
PYTHON_COMPAT=( python3_{12..15} )

inherit distutils-r1 pypi

DESCRIPTION="Linux filesystem events monitoring"
HOMEPAGE="
	https://github.com/seb-m/pyinotify/
	https://pypi.org/project/pyinotify/
"

LICENSE="MIT"
SLOT="0"
KEYWORDS="~amd64 ~arm64"

python_prepare_all() {
	# Python 3.12 took asyncore away, which only AsyncNotifier needs; with dev-python/pyasyncore that works too.
	sed -i -e 's/^import asyncore$/try:\n    import asyncore\nexcept ImportError:\n    asyncore = None/' \
		-e 's/(asyncore\.file_dispatcher, /(*([asyncore.file_dispatcher] if asyncore else []), /' \
		python3/pyinotify.py || die
	grep -q "if asyncore else" python3/pyinotify.py || die

	distutils-r1_python_prepare_all
}
