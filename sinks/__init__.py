"""Where things are written: the warehouse and the dead-letter topic."""
