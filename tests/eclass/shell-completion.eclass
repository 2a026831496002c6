# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface.

newbashcomp() {
	(
		insopts -m 0644
		insinto /usr/share/bash-completion/completions
		newins "$@"
	)
}

dozshcomp() {
	(
		insopts -m 0644
		insinto /usr/share/zsh/site-functions
		doins "$@"
	)
}

dofishcomp() {
	(
		insopts -m 0644
		insinto /usr/share/fish/vendor_completions.d
		doins "$@"
	)
}
