"""How we talk to the outside: one vendor, one file, its sending and the reading of its callbacks."""
