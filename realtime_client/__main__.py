"""`python -m realtime_client` is the command `realtime`."""

import sys

from realtime_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
