"""A folder of pictures looked at, and the config that suits it and this machine."""
