"""The edge: settings, command line, the running service and its page."""

import os

from stitchline.absent import do_not_look_for_pandas

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read at its import; the flow's workers are threads enough
do_not_look_for_pandas()
