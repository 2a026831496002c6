# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector: receives signed records, keeps them as evidence, and serves what follows from them."""
