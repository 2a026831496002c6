# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests: unit, property, contract, integration, acceptance and house, and what they share."""
