"""``python -m detcam``."""

import sys

from detcam.cli import main

sys.exit(main())
