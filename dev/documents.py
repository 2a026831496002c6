# SPDX-License-Identifier: GPL-2.0-or-later
"""`make docs`: write the manuals and completions anew from what the commands say of themselves."""

import sys
from collections.abc import Mapping
from pathlib import Path

from dev import completions, manuals
from dev.places import ROOT


def documents() -> Mapping[Path, str]:
    """Every file that is written here, with what belongs into it."""
    return {
        **{ROOT / "man" / name: text for name, text in manuals.pages().items()},
        **{ROOT / "completions" / name: text for name, text in completions.files().items()},
    }


def main() -> int:
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
