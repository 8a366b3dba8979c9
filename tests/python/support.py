"""What the tests of both clients have in common: the hub's address, and waiting for what a client was told."""

import os
import queue

# The server to be tried serves the conformance hub below this address.
BASE = os.environ["TEST_HUB_URL"].rstrip("/")
HUB = BASE + "/testHub"

# ASP.NET Core 3.1, against which these tests were tried, is older than some of what they ask for.
PEER_IS_3_1 = os.environ.get("PEER") == "aspnet31"

# How long anything may take, in seconds. Nothing here should need one of them.
LIMIT = 20


class Heard:
    """What a client was told, in order, from whatever thread it was told by."""

    def __init__(self):
        self._queue = queue.Queue()

    def __call__(self, *what):
        self._queue.put(what[0] if len(what) == 1 else what)

    def next(self):
        """The next of it, within the limit."""
        return self._queue.get(timeout=LIMIT)

    def rest(self):
        """What else has come until now."""
        rest = []
        while not self._queue.empty():
            rest.append(self._queue.get_nowait())
        return rest
