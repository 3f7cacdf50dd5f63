"""Version 1 of the contract, as generated; see `generate.sh`."""
