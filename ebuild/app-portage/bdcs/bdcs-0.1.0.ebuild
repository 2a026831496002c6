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
	S="${WORKDIR}/gentwoo-${PV}"
	KEYWORDS="~amd64 ~arm64"
fi

DESCRIPTION="Collector, builder and signer of GenTwoo: records and binary packages"
HOMEPAGE="https://example.org/gentwoo"

LICENSE="GPL-2+"
SLOT="0"
IUSE="amqp postgres s3"

RDEPEND="
	acct-group/bdcs
	acct-group/bdcs-builder
	acct-group/bdcs-signer
	acct-user/bdcs
	acct-user/bdcs-builder
	acct-user/bdcs-signer
	app-crypt/gnupg
	~app-portage/gentwoo-${PV}[${PYTHON_USEDEP}]
	dev-python/aiohttp[${PYTHON_USEDEP}]
	dev-python/aiosqlite[${PYTHON_USEDEP}]
	dev-python/alembic[${PYTHON_USEDEP}]
	dev-python/jinja2[${PYTHON_USEDEP}]
	dev-python/prometheus-client[${PYTHON_USEDEP}]
	dev-python/sqlalchemy[${PYTHON_USEDEP}]
	dev-python/uvloop[${PYTHON_USEDEP}]
	sys-apps/bubblewrap
	amqp? ( dev-python/aio-pika[${PYTHON_USEDEP}] )
	postgres? ( dev-python/psycopg[${PYTHON_USEDEP}] )
	s3? ( dev-python/boto3[${PYTHON_USEDEP}] )
"

python_prepare_all() {
	# The client is a package of its own, and both would have one name.
	rm -r gentwoo_client || die
	sed -i -e 's/^name = gentwoo$/name = gentwoo-bdcs/' \
		-e "s/^version = .*/version = ${PV}/" \
		-e '/gentwoo_client\.cli:main/d' -e '/^    gentwoo_client\*$/d' \
		-e '/^install_requires =/,/^$/d' setup.cfg || die

	distutils-r1_python_prepare_all
}

src_install() {
	distutils-r1_src_install

	doman man/bdcs.8 man/bdcs-builder.8 man/bdcs.toml.5
	newbashcomp completions/bdcs.bash bdcs
	dozshcomp completions/_bdcs
	dofishcomp completions/bdcs.fish

	local service
	for service in bdcs bdcs-signer bdcs-builder; do
		newinitd "openrc/${service}.initd" "${service}"
		newconfd "openrc/${service}.confd" "${service}"
		systemd_dounit "systemd/${service}.service"
	done
	newtmpfiles systemd/bdcs.tmpfiles bdcs.conf

	insinto /etc/bdcs
	doins "${FILESDIR}/bdcs.toml"
}

pkg_postinst() {
	tmpfiles_process bdcs.conf

	if [[ -z ${REPLACING_VERSIONS} ]]; then
		elog "Machines need to know this collector's public URL, which cannot be changed later."
		elog "Write it into ${EROOT}/etc/bdcs/bdcs.toml, then start the service:"
		elog "  rc-update add bdcs default && rc-service bdcs start"
		elog "or"
		elog "  systemctl enable --now bdcs"
		elog "What signed packages and builders need besides: bdcs(8), bdcs-builder(8)."
	fi
}
