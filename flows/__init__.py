"""The way of an event from a source to the checkpoint: read, decode, sessionize, commit."""
