"""Where the tests find things."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
