# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m bdcs` is `bdcs`."""

from bdcs.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
