# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol that client and collector share; imports nothing of ours and nothing on its own."""
