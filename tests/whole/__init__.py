"""The whole way of an event, from a topic or a file to the warehouse, by the command line that people use."""
