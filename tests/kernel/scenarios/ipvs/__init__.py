"""Subjects of IPVS, one file each; they run in the user-mode kernel."""
