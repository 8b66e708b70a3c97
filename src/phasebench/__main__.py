"""``python -m phasebench``, the same as ``python runner.py``."""

import sys

from phasebench.cli import main

if __name__ == "__main__":
    sys.exit(main())
