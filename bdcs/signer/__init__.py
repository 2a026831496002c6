# SPDX-License-Identifier: GPL-2.0-or-later
"""The signer: the one process that can use the key with which packages are signed.

It runs as a user of its own, reads nothing but its home and the files that are handed to it, and is asked
over a Unix socket (`protocol`). It signs only what passes the collector's own rules for packages, which it
applies itself.
"""
