"""The commands of the command line, one module a family. They parse, call wiring, and print."""
