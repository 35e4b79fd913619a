"""The edge: settings, command line, the running service and its page."""
