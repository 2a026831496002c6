# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

DISTUTILS_USE_PEP517=setuptools
PYTHON_COMPAT=( python3_{12..15} )
PYTHON_REQ_USE="sqlite,ssl(+)"

inherit distutils-r1 shell-completion systemd tmpfiles

if [[ ${PV} == 9999 ]]; then
	inherit git-r3
	EGIT_REPO_URI="https://example.org/gentwoo.git"
else
	SRC_URI="https://example.org/gentwoo/gentwoo-${PV}.tar.gz"
	KEYWORDS="~amd64 ~arm64"
fi

DESCRIPTION="Tells a collector what Portage merged here, and has packages built"
HOMEPAGE="https://example.org/gentwoo"

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
	sed -i -e '/bdcs\.cli:main/d' -e '/^    bdcs\*$/d' setup.cfg || die
	# Gentoo's pyinotify does without asyncore, so pyasyncore, which ends with Python 3.14, is not needed.
	sed -i -e '/^    pyasyncore /d' setup.cfg || die

	distutils-r1_python_prepare_all
}

src_install() {
	distutils-r1_src_install

	doman man/gentwoo.1 man/gentwoo.toml.5
	newbashcomp completions/gentwoo.bash gentwoo
	dozshcomp completions/_gentwoo
	dofishcomp completions/gentwoo.fish

	newinitd openrc/gentwoo.initd gentwoo
	newconfd openrc/gentwoo.confd gentwoo
	docinto examples
	dodoc openrc/gentwoo.cron
	docompress -x "/usr/share/doc/${PF}/examples"

	systemd_dounit systemd/gentwoo.service systemd/gentwoo-push.service systemd/gentwoo-push.timer
	newtmpfiles systemd/gentwoo.tmpfiles gentwoo.conf

	insinto /etc/gentwoo
	doins "${FILESDIR}/gentwoo.toml"
}

pkg_postinst() {
	tmpfiles_process gentwoo.conf

	if [[ -z ${REPLACING_VERSIONS} ]]; then
		elog "Nothing is sent before this machine is registered with a collector:"
		elog "  emerge --config ${CATEGORY}/${PN}"
		elog "Then start the service:"
		elog "  rc-update add gentwoo default && rc-service gentwoo start"
		elog "or"
		elog "  systemctl enable --now gentwoo"
	fi
}

pkg_config() {
	[[ -n ${ROOT} ]] && die "registration works on the running system only"

	local config="${EROOT}/etc/gentwoo/gentwoo.toml"
	local options=()
	# Standard output is a terminal even when it was redirected.
	[[ -t 0 ]] || options+=( --non-interactive )
	# What make.conf says now does not get here by itself: this runs in the environment of the merge.
	local collector=$("${EROOT}/usr/bin/portageq" envvar GENTWOO_COLLECTOR 2>/dev/null)
	: "${collector:=${GENTWOO_COLLECTOR}}"
	if [[ -n ${collector} ]]; then
		options+=( --collector "${collector}" )
	elif [[ ! -t 0 ]] && ! grep -q '^[[:space:]]*collector[[:space:]]*=' "${config}"; then
		eerror "To which collector shall this machine report? Write one of these lines:"
		eerror "  collector = \"https://bdcs.example.org\"            into ${config}"
		eerror "  GENTWOO_COLLECTOR=\"https://bdcs.example.org\"     into ${EROOT}/etc/portage/make.conf"
		die "no collector is named"
	fi

	"${EROOT}/usr/bin/gentwoo" --config "${config}" register "${options[@]}" || die "registration failed"
}
