# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenPGP by the commands gpg and gpgv: the signer, and whoever verifies, speak to them through here."""
