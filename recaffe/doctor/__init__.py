"""What this machine can do for recaffe: groups of checks, and the ways to work that follow."""
