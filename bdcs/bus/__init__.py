# SPDX-License-Identifier: GPL-2.0-or-later
"""Wake-ups: who waits for something is told that it may have happened. The truth is in the store."""
