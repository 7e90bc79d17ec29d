"""`python -m retarget` is the command `retarget`."""

import sys

from retarget.cli import main

sys.exit(main())
