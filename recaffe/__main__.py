"""`python -m recaffe` is the `recaffe` command."""

import sys

from recaffe.cli import main

sys.exit(main())
