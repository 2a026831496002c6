# SPDX-License-Identifier: GPL-2.0-or-later
"""Use cases of the collector, one a module. They know the store, not HTTP."""
