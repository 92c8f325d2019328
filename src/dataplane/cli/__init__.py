"""The command `dataplane`: one module per verb, imported when the verb is used.

Data goes to the standard output, progress and warnings to the standard error. Exit status: 0 as expected, 1 not as
expected, 2 could not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from dataplane import __version__
from dataplane.errors import DataplaneError

__all__ = ["EXPECTED", "FAILED", "UNEXPECTED", "main"]

EXPECTED, UNEXPECTED, FAILED = 0, 1, 2

# Verb -> what it does; the function of the same name is in the module of the same name, or a mapping of the functions of
# what the verb is about (`dataplane bench modes`).
VERBS: dict[str, str] = {
    "replay": "Send a capture through a cluster or a host, and write what each interface saw",
    "render": "Print the configuration that a node of a cluster has, as iptables-save, ip and others print it",
    "get": "Show nodes, pods, services, endpoints and more of a cluster, completed as the cluster would",
    "connections": "Send a capture through a cluster, and list a node's connections as conntrack -L does",
    "describe": "Show one service, pod or node, what a node's agents make of it, and what has no effect here",
    "generate": "Make a large capture for a cluster",
    "bench": "Measure kube-proxy's modes and the cores of this program, and this machine's kernel beside them",
}
HELP = (
    "The packet path of a Kubernetes cluster: captures in, captures out, every verdict explained.\n\n"
    "Usage: dataplane VERB ...\n\n"
    "Verbs:\n"
    + "".join(f"  {verb:<13}{text}\n" for verb, text in VERBS.items())
    + "\nOptions:\n  --help, -h  this text; after a verb, all about the verb\n  --version   the version\n"
    "\nExit status: 0 as expected, 1 not as expected, 2 could not run.\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name; by default the process's) and return the exit status."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(tokens)
        # Here, where a reader that has gone away can still be told from an error.
        sys.stdout.flush()
        return status
    except DataplaneError as error:
        return _say(error)
    except BrokenPipeError:
        # The reader of the output has seen enough (`| head`). What is still buffered has nowhere to go.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 - open until the process ends
        return FAILED
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}" if error.filename is not None else error)
    except KeyboardInterrupt:
        return _say("interrupted")


def _run(tokens: list[str]) -> int:
    # Said here, because what parses the verbs takes longer to import than a reader of the help wants to wait.
    if not tokens or tokens in (["--help"], ["-h"]):
        print(HELP, end="")
        return EXPECTED if tokens else FAILED
    if tokens == ["--version"]:
        print(__version__)
        return EXPECTED
    verb = tokens[0]
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, 1)
        return _say(f"{verb}: no such verb" + (f"; did you mean {near[0]}?" if near else "; see dataplane --help"))
    from cyclopts import App, CycloptsError

    from dataplane.cli.help import Formatter

    function = getattr(import_module(f"dataplane.cli.{verb}"), verb)
    app = App(name=f"dataplane {verb}", help_format="plaintext", help_formatter=Formatter(), version_flags=())
    if isinstance(function, dict):
        app.help = VERBS[verb] + "."
        for name, command in function.items():
            app.command(command, name=name)
    else:
        app.default(function)
    try:
        return int(app(tokens[1:], exit_on_error=False, print_error=False, result_action="return_value") or EXPECTED)
    except CycloptsError as error:
        return _say(f"{verb}: {error} See dataplane {verb} --help")


def _say(problem: object) -> int:
    print(f"dataplane: {problem}", file=sys.stderr)
    return FAILED
