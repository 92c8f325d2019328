"""lightkube's models of the Kubernetes API, without lightkube's HTTP client.

The package's __init__ imports the client and with it an HTTP stack, six times what the models take. So a module that
runs that __init__ only when something of it is asked for stands in for the package; for anyone else who imports
lightkube in the same process it is the package.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, TypeVar, get_args, get_type_hints

from dataplane.cluster.fields import Fields


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:  # asked only for what is missing
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        specification = self.__spec__
        object.__setattr__(self, "__class__", ModuleType)
        if specification is not None and specification.loader is not None:
            specification.loader.exec_module(self)
        return getattr(self, name)


def _without_client() -> None:
    if "lightkube" in sys.modules:
        return
    specification = importlib.util.find_spec("lightkube")
    if specification is not None:
        package = importlib.util.module_from_spec(specification)
        object.__setattr__(package, "__class__", _Package)
        sys.modules["lightkube"] = package


_without_client()

from lightkube.models import apps_v1, batch_v1, core_v1, discovery_v1, meta_v1  # noqa: E402
from msgspec import Struct, ValidationError  # noqa: E402

__all__ = ["apps_v1", "batch_v1", "core_v1", "discovery_v1", "meta_v1", "typed", "unknown_fields"]

T = TypeVar("T", bound=Struct)

_ERROR = re.compile(r"(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`\Z")
# Quantities are text in the models; the API takes numbers as well.
_QUANTITIES = ("divisor", "perContainer", "perPod", "quantity", "sizeLimit")


def typed(value: dict[str, Any], model: type[T], fields: Fields) -> T:
    """A document as lightkube's model of its kind, or a ManifestError with the path of the field that does not fit."""
    while True:
        try:
            return model.from_dict(value)  # type: ignore[attr-defined, no-any-return]
        except ValidationError as error:
            match = _ERROR.match(str(error))
            message, path = (match["message"], match["path"] or "") if match else (str(error), "")
        if path.endswith(_QUANTITIES) and _as_text(value, path):
            continue
        missing = _MISSING.match(message)
        if missing:
            raise fields.error(f"{path}.{missing[1]}" if path else missing[1], "is missing")
        message = message.replace("`", "").replace(" | null", "").replace("object", "mapping").replace("array", "list")
        raise fields.error(path, message[:1].lower() + message[1:])


def _as_text(value: Any, path: str) -> bool:
    *steps, last = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    for step in steps:
        value = value[step]
    if isinstance(value[last], bool) or not isinstance(value[last], int | float):
        return False
    value[last] = str(value[last])
    return True


@cache
def _shape(model: type[Struct]) -> dict[str, type[Struct] | None]:
    """Field name -> the model inside it (directly, or in a list), None for a plain value."""
    hints = get_type_hints(model)
    shape: dict[str, type[Struct] | None] = {}
    for name, encoded in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        inner = hints[name]
        while get_args(inner):
            inner = get_args(inner)[0]
        shape[encoded] = inner if isinstance(inner, type) and issubclass(inner, Struct) else None
    return shape


def unknown_fields(value: dict[str, Any], model: type[Struct], path: str = "") -> Iterator[str]:
    """The paths in a document that its model does not know: misspelt, or newer than the model."""
    shape = _shape(model)
    for name, item in value.items():
        if name not in shape:
            yield path + name
            continue
        inner = shape[name]
        if inner is None:
            continue
        if isinstance(item, dict):
            yield from unknown_fields(item, inner, f"{path}{name}.")
        elif isinstance(item, list):
            for index, element in enumerate(item):
                if isinstance(element, dict):
                    yield from unknown_fields(element, inner, f"{path}{name}[{index}].")
