# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface.

SRC_URI="https://files.pythonhosted.org/packages/source/${PN::1}/${PN}/${PN//-/_}-${PV}.tar.gz"
S="${WORKDIR}/${PN//-/_}-${PV}"
