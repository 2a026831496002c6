# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector does, one use case a module; no HTTP here."""
