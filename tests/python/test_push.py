"""websockets 17 as a worker of the task centre: tasks as texts, or with an id that is answered."""

import json
import os
import unittest
import urllib.request
from contextlib import contextmanager
from uuid import uuid4

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support import LIMIT, PEER_IS_3_1

SERVER = os.environ.get("SERVER_URL", "").rstrip("/")


def submit(kind, name):
    """Puts a task into the queue, and gives its id. Each test has a type of its own, which other workers do not do."""
    body = json.dumps({"TaskName": name, "TaskType": kind}).encode()
    with urllib.request.urlopen(f"{SERVER}/tasks", body, LIMIT) as answer:
        return json.load(answer)["id"]


@contextmanager
def worker(kind, query="", **more):
    """A worker that does tasks of one type."""
    url = f"{SERVER.replace('http://', 'ws://')}/push{query}"
    with connect(url, open_timeout=LIMIT, close_timeout=LIMIT) as socket:
        socket.send(json.dumps({"id": str(uuid4()), "types": [kind]} | more))
        # Who is answered was heard before.
        assert socket.ping().wait(LIMIT), "no pong"
        yield socket


@unittest.skipIf(PEER_IS_3_1, "only the program has it")
class Push(unittest.TestCase):
    def setUp(self):
        self.assertTrue(SERVER, "SERVER_URL is not set: it must be where hubcast listens, for example http://127.0.0.1:8080")

    def assert_ends(self, socket, code, reason):
        with self.assertRaises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
        self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (code, reason))

    def test_tasks_come_as_texts_in_order(self):
        with worker(201) as socket:
            names = ["Demo", "ü世🦀" * 1000, ""]
            for name in names:
                submit(201, name)
            for name in names:
                self.assertEqual(socket.recv(LIMIT), f"Special-{name}")

    def test_a_worker_answers_for_each_task_by_its_id(self):
        with worker(202, "?ack=done") as socket:
            first, second = submit(202, "first"), submit(202, "second")
            self.assertEqual(json.loads(socket.recv(LIMIT)), {"id": first, "task": "Special-first"})
            socket.send("nonsense")
            self.assertIn("Say ", json.loads(socket.recv(LIMIT))["error"])
            # In pieces, which is nothing special.
            socket.send(['{"done":', f' "{first}"', "}"])
            self.assertEqual(json.loads(socket.recv(LIMIT)), {"id": second, "task": "Special-second"})
            socket.send(json.dumps({"done": first}))
            self.assertEqual(json.loads(socket.recv(LIMIT)), {"error": "You have no task of that id.", "id": first})
            socket.send(json.dumps({"done": second}))

    def test_a_worker_that_goes_leaves_its_task_to_another(self):
        with worker(203, "?ack=done") as first:
            task = submit(203, "left")
            self.assertEqual(json.loads(first.recv(LIMIT))["id"], task)
        with worker(203, "?ack=done") as second:
            self.assertEqual(json.loads(second.recv(LIMIT))["id"], task)
            second.send(json.dumps({"done": task}))

    def test_a_second_worker_with_the_same_id_closes_the_first(self):
        name = str(uuid4())
        with worker(204, id=name) as first:
            with worker(204, id=name) as second:
                self.assert_ends(first, 1011, "A new client with same id was connected!")
                submit(204, "for the second")
                self.assertEqual(second.recv(LIMIT), "Special-for the second")

    def test_what_no_worker_says_ends_the_connection_with_the_reason(self):
        url = f"{SERVER.replace('http://', 'ws://')}/push"
        for said, code, reason in [
            (b"bytes", 1003, "Only texts are understood."),
            ("", 1008, "A worker needs an id."),
            ("x" * (1024 * 1024 + 1), 1009, ""),
        ]:
            with self.subTest(code), connect(url, open_timeout=LIMIT, close_timeout=LIMIT) as socket:
                socket.send(said)
                self.assert_ends(socket, code, reason)

    def test_who_may_not_have_a_websocket_is_told_before_there_is_one(self):
        url = f"{SERVER.replace('http://', 'ws://')}/push"
        for query, origin, status, text in [
            ("", "https://evil.example", 403, b"This origin is not allowed."),
            ("?ack=yes", None, 400, b"The parameter 'ack' is 'done', or is left out."),
        ]:
            with self.subTest(status), self.assertRaises(InvalidStatus) as refused, connect(url + query, origin=origin, open_timeout=LIMIT):
                self.fail("it was let in")
            answer = refused.exception.response
            self.assertEqual((answer.status_code, answer.body), (status, text))
