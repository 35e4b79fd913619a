"""The edge: settings, command line, the running service and its page."""

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read at its import; the flow's workers are threads enough
