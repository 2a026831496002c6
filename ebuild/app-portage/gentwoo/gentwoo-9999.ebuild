# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=setuptools
PYTHON_COMPAT=( python3_{12..15} )
PYTHON_REQ_USE="sqlite,ssl(+)"

inherit distutils-r1 git-r3

DESCRIPTION="Tells a collector what Portage merged here, and reads the history of it"
HOMEPAGE="https://example.org/gentwoo"
EGIT_REPO_URI="https://example.org/gentwoo.git"

LICENSE="GPL-2+"
SLOT="0"

RDEPEND="
	acct-group/gentwoo
	acct-user/gentwoo
	dev-python/aiohttp[${PYTHON_USEDEP}]
	dev-python/aiosqlite[${PYTHON_USEDEP}]
	dev-python/cryptography[${PYTHON_USEDEP}]
	dev-python/pydantic[${PYTHON_USEDEP}]
	dev-python/pyinotify[${PYTHON_USEDEP}]
	dev-python/pyjwt[${PYTHON_USEDEP}]
	dev-python/python-daemon[${PYTHON_USEDEP}]
	sys-apps/portage
	$(python_gen_cond_dep '
		dev-python/backports-zstd[${PYTHON_USEDEP}]
	' python3_{12..13})
"

python_prepare_all() {
	# The collector is a package of its own.
	rm -r bdcs || die
	sed -i -e '/bdcs\.cli:main/d' setup.cfg || die

	distutils-r1_python_prepare_all
}

src_install() {
	distutils-r1_src_install

	insinto /etc/gentwoo
	doins "${FILESDIR}/gentwoo.toml"
}

pkg_postinst() {
	if [[ -z ${REPLACING_VERSIONS} ]]; then
		elog "Name the collector in ${EROOT}/etc/gentwoo/gentwoo.toml, then register this machine:"
		elog "  emerge --config ${CATEGORY}/${PN}"
	fi
}

pkg_config() {
	[[ -n ${ROOT} ]] && die "registration works on the running system only"

	local options=()
	[[ -t 0 ]] || options+=( --non-interactive )

	"${EROOT}/usr/bin/gentwoo" --config "${EROOT}/etc/gentwoo/gentwoo.toml" register "${options[@]}" \
		|| die "registration failed"
}
