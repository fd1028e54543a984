"""The command line: main.py dispatches, one module a command; nothing heavy is imported before a command runs."""
