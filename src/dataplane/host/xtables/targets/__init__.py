"""One file for each target: `-j NAME` is targets/name.py (in lower case), whose TARGET is the class."""
