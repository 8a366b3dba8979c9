"""signalrcore 1.0: threads, callbacks, and a WebSocket, Server-Sent Events and Long Polling of its own making.

What is peculiar about it, and what it asks of a server:

- It negotiates without a version, so it connects with the `connectionId` that it is given. It then takes the version of
  the negotiation for that of the hub protocol: its handshake asks for version 0, which servers since 8.0 accept.
- It sends its HTTP headers as the headers of each message.
- Its `Host` header has no port, and its WebSocket takes pings of the WebSocket protocol for messages: a server may not
  send any.
- A WebSocket frame that comes together with the answer to the upgrade is lost: a server may say nothing before the
  handshake.
- Who listens to a stream says so after the call was sent, so the first items may be lost.
- Its messages for uploads are wrong in MessagePack: the ids are in the places of others. So uploads are tried in JSON.
- `stop` closes the socket under a thread that reads from it, and waits for that thread, which sees it with the next
  bytes of the server: its next ping, if it has nothing else to say.
- All errors of all calls come to one handler, as whole Completions.
- Of an answer to a poll that has several messages it takes the first, and the next one when the next poll is answered,
  which may be never. So what is tried over Long Polling has one message an answer. It polls for text only.
"""

import logging
import unittest

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.protocol.json_hub_protocol import JsonHubProtocol
from signalrcore.protocol.messagepack_protocol import MessagePackHubProtocol
from signalrcore.subject import Subject
from signalrcore.types import HttpTransportType, HubProtocolEncoding

from support import HUB, PEER_IS_3_1, Heard

PROTOCOLS = {
    HubProtocolEncoding.text: JsonHubProtocol,
    HubProtocolEncoding.binary: MessagePackHubProtocol,
}


class Client:
    """A connection that is open, and what it hears."""

    def __init__(self, case, encoding, transport, reconnect=False):
        builder = HubConnectionBuilder().with_url(HUB, options={"transport": transport})
        builder.configure_logging(logging.CRITICAL)
        # 3.1 wants a handshake to ask for version 1, so there the client must be told.
        builder.with_hub_protocol(PROTOCOLS[encoding]() if PEER_IS_3_1 else encoding)
        if reconnect:
            builder.with_automatic_reconnect({"type": "raw", "reconnect_interval": 0.2, "max_attempts": 20})
        self.hub = builder.build()
        self.opened, self.reopened, self.closed = Heard(), Heard(), Heard()
        self.messages, self.errors = Heard(), Heard()
        self.hub.on_open(lambda: self.opened("open"))
        self.hub.on_reconnect(lambda: self.reopened("open again"))
        self.hub.on_close(lambda: self.closed("closed"))
        self.hub.on_error(self.errors)
        self.hub.on("Message", self.messages)
        case.addCleanup(self.stop)
        self.hub.start()
        self.opened.next()

    def stop(self):
        """Ends the connection; if it is open, without waiting for the server's next ping."""
        if self.hub.transport.is_connected():
            self.hub.invoke("DelayedEcho", ["what its thread hears when it shall end", 200])
        self.hub.stop()

    def invoke(self, method, *arguments):
        """The result of a call that succeeds."""
        done = Heard()
        self.hub.on_error(done)
        self.hub.invoke(method, list(arguments), done)
        completion = done.next()
        self.hub.on_error(self.errors)
        if completion.error is not None:
            raise AssertionError(f"{method} failed: {completion.error}")
        return completion.result

    def error(self, method, *arguments):
        """The text of the error of a call that fails."""
        sent = self.hub.invoke(method, list(arguments))
        completion = self.errors.next()
        assert completion.invocation_id == sent.invocation_id
        return completion.error


class Calls:
    """What is tried on every transport, and in each encoding that the client has there."""

    encoding = HubProtocolEncoding.text
    transport = HttpTransportType.web_sockets

    def client(self, **options):
        return Client(self, self.encoding, self.transport, **options)

    def test_calls_have_results(self):
        client = self.client()
        self.assertEqual(client.invoke("GetActiveTransportName"), self.transport.value)
        self.assertEqual(client.invoke("Echo", "grüße, 世界 😀"), "grüße, 世界 😀")
        self.assertEqual(client.invoke("Add", 40, 2), 42)
        self.assertEqual(client.invoke("EchoList", ["a", "b"]), ["a", "b"])
        self.assertEqual(client.invoke("EchoDictionary", {"one": 1}), {"one": 1})
        self.assertIsNone(client.invoke("NullResult"))
        self.assertIsNone(client.invoke("VoidMethod"))
        self.assertEqual(client.invoke("BigString", 30_000), "x" * 30_000)

    def test_calls_that_fail_say_why(self):
        client = self.client()
        self.assertEqual(
            client.error("ThrowHubException", "no"),
            "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: no",
        )
        self.assertEqual(
            client.error("ThrowException", "secret"),
            "An unexpected error occurred invoking 'ThrowException' on the server.",
        )
        self.assertEqual(
            client.error("NoSuchMethod"),
            "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
        )
        self.assertEqual(client.invoke("Echo", "still here"), "still here")


class Rooms:
    """What comes in several messages, which may come at once."""

    def test_a_group_hears_what_is_said_in_it(self):
        one, other, stranger = self.client(), self.client(), self.client()
        group = f"signalrcore {self.id()}"
        one.invoke("JoinGroup", group)
        other.invoke("JoinGroup", group)
        for text in ["first", "second"]:
            one.invoke("CallGroup", group, text)
            self.assertEqual(one.messages.next(), [text])
            self.assertEqual(other.messages.next(), [text])
        other.invoke("LeaveGroup", group)
        one.invoke("CallGroup", group, "third")
        self.assertEqual(one.messages.next(), ["third"])
        # What was sent before has come before an answer does.
        for silent in [other, stranger]:
            self.assertEqual(silent.invoke("Echo", "nothing?"), "nothing?")
            self.assertEqual(silent.messages.rest(), [])

    def test_a_stream_comes_in_order_and_ends(self):
        client = self.client()
        items, ended = Heard(), Heard()
        stream = client.hub.stream("Counter", [20, 20])
        stream.subscribe({"next": items, "complete": ended, "error": ended})
        ended.next()
        items = items.rest()
        self.assertEqual(items, list(range(20))[-len(items):])
        self.assertGreater(len(items), 10)

    def test_a_stream_that_fails_says_so(self):
        client = self.client()
        items = Heard()
        stream = client.hub.stream("StreamHubExceptionMidway", [2, "no"])
        stream.subscribe({"next": items, "complete": items, "error": items})
        error = client.errors.next().error
        self.assertTrue(error.endswith("HubException: no"), error)
        self.assertIn(items.rest(), [[0, 1], [1], []])


class Uploads:
    """What the client can do in JSON only."""

    def test_a_stream_can_be_uploaded(self):
        client = self.client()
        done = Heard()
        client.hub.on("UploadDone", done)
        upload = Subject()
        client.hub.invoke("UploadThenNotify", upload)
        for item in ["a", "b", "c"]:
            upload.next(item)
        upload.complete()
        self.assertEqual(done.next(), [3])


class OverWebSocketsInJson(Calls, Rooms, Uploads, unittest.TestCase):
    def test_a_client_that_was_thrown_out_comes_back(self):
        client = self.client(reconnect=True)
        before = client.invoke("GetCallerConnectionId")
        # More than a server takes in one message.
        client.hub.invoke("Echo", ["x" * 40_000])
        client.reopened.next()
        after = client.invoke("GetCallerConnectionId")
        self.assertNotEqual(before, after)
        client.invoke("CallCaller", "welcome back")
        self.assertEqual(client.messages.next(), ["welcome back"])

    def test_a_client_that_says_goodbye_is_gone(self):
        watcher, client = self.client(), self.client()
        gone = Heard()
        watcher.hub.on("Disconnected", gone)
        watcher.invoke("WatchDisconnects")
        connection = client.invoke("GetCallerConnectionId")
        client.stop()
        client.closed.next()
        # Others of this hub may leave, too.
        while gone.next()[0] != connection:
            pass


@unittest.skipIf(PEER_IS_3_1, "the conformance hub of 3.1 speaks JSON only")
class OverWebSocketsInMessagePack(Calls, Rooms, unittest.TestCase):
    encoding = HubProtocolEncoding.binary


class OverServerSentEvents(Calls, Rooms, Uploads, unittest.TestCase):
    transport = HttpTransportType.server_sent_events


class OverLongPolling(Calls, Uploads, unittest.TestCase):
    transport = HttpTransportType.long_polling


if __name__ == "__main__":
    unittest.main()
