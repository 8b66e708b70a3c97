"""``python -m phasebench``, the same as ``python runner.py``."""

import sys

from phasebench.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
