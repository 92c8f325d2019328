"""What can go wrong outside the packets: a packet never raises, it gets a verdict and a reason.

DataplaneError
 ├ InputError          a file or a text that cannot be read: names the file, the place and the field
 │  ├ CaptureError     a capture; the place is "byte 1234"
 │  ├ ManifestError    a manifest; the place is "document 3"
 │  ├ DumpError        a host configuration text; the place is "line 12"
 │  └ MappingError     a mapping that does not parse or names nothing
 └ ModelError          a program asks for something that the model does not have
"""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "DataplaneError",
    "DumpError",
    "InputError",
    "ManifestError",
    "MappingError",
    "ModelError",
]


class DataplaneError(Exception):
    """The root: catch this to catch everything that this package raises on purpose."""


class InputError(DataplaneError):
    """An input is wrong.

    file:    path of the input as the user gave it, "-" for the standard input, "" where there is none
    where:   the place inside it, such as "byte 1234", "line 12" or "document 3"; "" where there is none
    field:   the field that is wrong, in the format's own words; "" where there is none
    message: what is wrong with it
    """

    def __init__(self, file: object, where: str = "", field: str = "", message: str = "") -> None:
        self.file = str(file)
        self.where = where
        self.field = field
        self.message = message
        # All four, so that the error survives a pickle on its way between processes.
        super().__init__(self.file, where, field, message)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.where, self.field, self.message) if part)


class CaptureError(InputError):
    """A capture file is cut, corrupt or of a kind that is not read. Every packet before the place was given out."""


class ManifestError(InputError):
    """A Kubernetes manifest does not parse, or a field has a wrong type or names something that is not there."""


class DumpError(InputError):
    """A host configuration text (iptables-save, ip -json, ...) does not parse or holds an option not understood."""


class MappingError(InputError):
    """A mapping of addresses does not parse, or names nothing in the cluster."""


class ModelError(DataplaneError):
    """A program asks for something that the model does not have: an unknown node, an unknown interface."""
