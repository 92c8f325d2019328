"""The numbers of ruleset.pxd as Python enums."""
