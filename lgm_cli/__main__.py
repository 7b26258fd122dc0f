"""`python -m lgm_cli` is the same program as `lgm-run`."""

import sys

from lgm_cli.command.cli import main

if __name__ == "__main__":
    sys.exit(main())
