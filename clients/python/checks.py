"""What the Python example clients share: where the broker is, fresh names, and one line per check."""

import os
import sys
import time
import traceback

TIMEOUT_S = 20


def address(variable, usual):
    """HOST:PORT from the first argument, else from the environment variable, else the usual local port."""
    if len(sys.argv) > 1:
        return sys.argv[1]
    return os.environ.get(variable, usual)


def host_and_port(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def unique(prefix):
    """A name that no other run uses."""
    return f"{prefix}-{time.time_ns():x}"


def same(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {brief(got)}, want {brief(want)}")


def brief(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


def wait_until(what, condition, timeout_s=TIMEOUT_S):
    """Calls `condition` (which may block a little, and should) until it is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {timeout_s} s")


def run(checks):
    """Runs each (name, function), prints `ok NAME` or `FAIL NAME: why`, and ends the program with 0 or 1."""
    failed = 0
    for name, check in checks:
        try:
            check()
        except Exception as error:  # a check may fail in any way; each way is one line
            failed += 1
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"FAIL {name}: {reason}", flush=True)
            if os.environ.get("CLIENT_TRACE"):
                traceback.print_exc()
        else:
            print(f"ok {name}", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # background threads of a client library must not keep the program
