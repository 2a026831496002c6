# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP in, HTTP out: API handlers, pages, templates and static files."""
