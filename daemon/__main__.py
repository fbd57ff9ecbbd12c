"""`python -m maxd.daemon`."""

import sys

from maxd.daemon.main import main

if __name__ == "__main__":
    sys.exit(main())
