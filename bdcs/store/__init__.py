# SPDX-License-Identifier: GPL-2.0-or-later
"""Relational state: tables, migrations, and the one writer that all changes go through."""
