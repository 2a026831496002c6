# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs on every Gentoo machine: follow emerge.log, keep a journal, sign it, push it.

Read in this order: `wire` (what travels), `log` (from bytes to changes), `journal`, `follow`
(how these meet), `uploader`, `cli`.
"""
