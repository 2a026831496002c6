# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

inherit acct-group

DESCRIPTION="Group of the GenTwoo builder"

ACCT_GROUP_ID=-1
