"""Run the command `jaxgmm` when Python is called as `python -m jaxgmm`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
