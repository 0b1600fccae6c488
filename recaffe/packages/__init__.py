"""Pictures and weights that ship inside packages of the Python registry and of Debian."""
