"""websockets 17: no SignalR at all, for the WebSockets of the program that only echo."""

import os
import unittest

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support import LIMIT, PEER_IS_3_1

ORIGIN = os.environ.get("SERVER_URL", "").rstrip("/")
SERVER = ORIGIN.replace("http://", "ws://")


@unittest.skipIf(PEER_IS_3_1, "only the program has them")
class RawWebSockets(unittest.TestCase):
    def open(self, path, **more):
        self.assertTrue(SERVER, "SERVER_URL is not set: it must be where hubcast listens, for example http://127.0.0.1:8080")
        return connect(SERVER + path, open_timeout=LIMIT, close_timeout=LIMIT, **more)

    def test_texts_come_back_with_a_greeting_and_bytes_as_they_are(self):
        for path, greeting in [("/ws", "Server: Hello. You said: "), ("/echo", "Server Response: "), ("/echo?raw=1", "")]:
            with self.subTest(path), self.open(path, max_size=None) as socket:
                for text in ["Hello", "ü世🦀" * 10_000, "x", ""]:
                    socket.send(text)
                    self.assertEqual(socket.recv(LIMIT), greeting + text)
                socket.send(b"\x00\xff\x80")
                self.assertEqual(socket.recv(LIMIT), b"\x00\xff\x80")

    def test_fragments_are_one_message_and_pings_are_answered(self):
        with self.open("/echo?raw=1") as socket:
            socket.send(["one ", "two ", "three"])
            self.assertEqual(socket.recv(LIMIT), "one two three")
            self.assertTrue(socket.ping("there?").wait(LIMIT), "no pong")

    def test_what_is_offered_beyond_that_is_not_taken(self):
        for path in ["/ws", "/echo", "/api/chat?nickname=Python&room=offers", "/push"]:
            with self.subTest(path), self.open(path, compression="deflate", subprotocols=["chat", "graphql-ws"], origin=ORIGIN) as socket:
                self.assertEqual(socket.response.headers.get("Sec-WebSocket-Extensions"), None)
                self.assertEqual(socket.subprotocol, None)
                self.assertTrue(socket.ping().wait(LIMIT), "no pong")

    def test_messages_of_the_longest_kind_come_back(self):
        longest = 1024 * 1024
        with self.open("/echo?raw=1", max_size=None) as socket:
            for message in ["x" * longest, b"\xff" * longest, ["y" * (longest // 2)] * 2]:
                socket.send(message)
                whole = message if isinstance(message, (str, bytes)) else "".join(message)
                self.assertEqual(socket.recv(LIMIT), whole)

    def test_a_goodbye_is_answered_with_its_code(self):
        with self.open("/ws") as socket, self.assertRaises(ConnectionClosed) as closed:
            socket.close(4321, "enough")
            socket.recv(LIMIT)
        self.assertEqual(closed.exception.rcvd.code, 4321)

    def test_a_message_that_is_too_long_is_told_by_its_code(self):
        with self.open("/ws") as socket, self.assertRaises(ConnectionClosed) as closed:
            socket.send("x" * (1024 * 1024 + 1))
            socket.recv(LIMIT)
        self.assertEqual(closed.exception.rcvd.code, 1009)

    def test_a_page_of_another_origin_is_refused(self):
        with self.assertRaises(InvalidStatus) as refused, self.open("/ws", origin="https://evil.example"):
            self.fail("it was let in")
        self.assertEqual(refused.exception.response.status_code, 403)
