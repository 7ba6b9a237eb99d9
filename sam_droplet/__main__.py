"""Run the command line as ``python -m sam_droplet``."""

import sys

from sam_droplet.cli import main

sys.exit(main())
