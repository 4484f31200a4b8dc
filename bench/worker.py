"""Some roles of the service in one process, which its command line offers one by one or all together.

Usage: python -m bench.worker ROLE…
"""

import sys

from ops.process import run
from ops.settings import load

if __name__ == "__main__":
    run(load(dotenv=None), sys.argv[1:], files={})
