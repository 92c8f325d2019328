"""One file for each match: `-m NAME` is matches/NAME.py, whose MATCH is the class."""
