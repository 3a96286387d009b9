"""The command line: `app` is the table of commands, every command is a module of its own."""
