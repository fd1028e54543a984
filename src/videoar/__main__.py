"""`python -m videoar` is the console script `videoar`."""

import sys

from videoar.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
