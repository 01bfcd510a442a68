"""``python -m dino`` is the ``dino`` console script."""

import sys

from dino.cli import main

if __name__ == "__main__":
    sys.exit(main())
