# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files and index files: bytes only, named by rows of the store."""
