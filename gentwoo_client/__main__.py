# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m gentwoo_client` is `gentwoo`."""

import sys

from gentwoo_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
