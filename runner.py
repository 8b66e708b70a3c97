"""phasebench's command in a checkout; once installed, `phasebench` is the same.

python runner.py bench=all
"""

import sys

from phasebench.run.cli import job, main

__all__ = ["job", "main"]

if __name__ == "__main__":
    sys.exit(main())
