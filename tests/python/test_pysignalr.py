"""pysignalr 1.3: asyncio, over WebSockets, in JSON and in MessagePack.

What is peculiar about it, and what it asks of a server:

- It negotiates without a version, and connects with the `connectionId` that it is given.
- It sends pings of the WebSocket protocol, and gives up on a server that does not answer them.
- It does not look into a Close: one without an error is nothing to it, one with an error is an exception out of `run`.
- Thrown out, it first dials the same address again, with a token that is used up. Only the 404 for that makes it
  negotiate anew, with the old token still in the query of its negotiation.
- Its uploads have no invocation id: they get no answer.
- All errors of calls come to one handler; then the handler of the call's result is called as well.
"""

import asyncio
import unittest

from pysignalr.client import SignalRClient
from pysignalr.exceptions import ServerError
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

from support import HUB, LIMIT, PEER_IS_3_1


class CallFailed(Exception):
    """A call ended with this error."""


class Client:
    """A connection, and what it hears."""

    def __init__(self, protocol):
        self.hub = SignalRClient(HUB, protocol=protocol)
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        self.messages, self.errors = asyncio.Queue(), asyncio.Queue()
        self.hub.on_open(self._note(self.opened.set))
        self.hub.on_close(self._note(self.closed.set))
        self.hub.on_error(self.errors.put)
        self.hub.on("Message", self.messages.put)
        self.running = asyncio.create_task(self.hub.run())

    @staticmethod
    def _note(note):
        async def noted():
            note()

        return noted

    async def invoke(self, method, *arguments):
        """The result of a call that succeeds."""
        done = asyncio.get_running_loop().create_future()

        async def complete(completion):
            done.set_result(completion)

        await self.hub.send(method, list(arguments), complete)
        completion = await asyncio.wait_for(done, LIMIT)
        if completion.error is not None:
            raise CallFailed(completion.error)
        return completion.result

    async def error(self, method, *arguments):
        """The text of the error of a call that fails."""
        try:
            result = await self.invoke(method, *arguments)
        except CallFailed as failed:
            assert self.errors.get_nowait().error == str(failed)
            return str(failed)
        raise AssertionError(f"{method} succeeded: {result}")

    async def next(self):
        """The next message that it is told."""
        return await asyncio.wait_for(self.messages.get(), LIMIT)

    async def stop(self):
        """Goes away: to it, that is the end of its task."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


class Calls:
    protocol = JSONProtocol

    async def client(self):
        client = Client(self.protocol())
        self.addAsyncCleanup(client.stop)
        await asyncio.wait_for(client.opened.wait(), LIMIT)
        return client

    async def test_calls_have_results(self):
        client = await self.client()
        self.assertEqual(await client.invoke("GetActiveTransportName"), "WebSockets")
        self.assertEqual(await client.invoke("Echo", "grüße, 世界 😀"), "grüße, 世界 😀")
        self.assertEqual(await client.invoke("Add", 40, 2), 42)
        self.assertEqual(await client.invoke("EchoDouble", 31.245270191439438), 31.245270191439438)
        self.assertEqual(await client.invoke("EchoList", ["a", "b"]), ["a", "b"])
        self.assertEqual(await client.invoke("EchoDictionary", {"one": 1}), {"one": 1})
        self.assertIsNone(await client.invoke("NullResult"))
        self.assertIsNone(await client.invoke("VoidMethod"))
        self.assertEqual(await client.invoke("BigString", 300_000), "x" * 300_000)

    async def test_calls_that_fail_say_why(self):
        client = await self.client()
        self.assertEqual(
            await client.error("ThrowHubException", "no"),
            "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: no",
        )
        self.assertEqual(
            await client.error("ThrowException", "secret"),
            "An unexpected error occurred invoking 'ThrowException' on the server.",
        )
        self.assertEqual(
            await client.error("NoSuchMethod"),
            "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
        )
        self.assertEqual(
            await client.error("Add", "one", 2), "Failed to invoke 'Add' due to an error on the server."
        )
        self.assertEqual(await client.invoke("Echo", "still here"), "still here")

    async def test_a_group_hears_what_is_said_in_it(self):
        one, other, stranger = [await self.client() for _ in range(3)]
        group = f"pysignalr {self.id()}"
        await one.invoke("JoinGroup", group)
        await other.invoke("JoinGroup", group)
        for text in ["first", "second"]:
            await one.invoke("CallGroup", group, text)
            self.assertEqual(await one.next(), [text])
            self.assertEqual(await other.next(), [text])
        await other.invoke("LeaveGroup", group)
        await one.invoke("CallGroup", group, "third")
        self.assertEqual(await one.next(), ["third"])
        # What was sent before has come before an answer does.
        for silent in [other, stranger]:
            self.assertEqual(await silent.invoke("Echo", "nothing?"), "nothing?")
            self.assertTrue(silent.messages.empty())

    async def test_a_stream_comes_in_order_and_ends(self):
        client = await self.client()
        items, ended = [], asyncio.Queue()

        async def item(item):
            items.append(item)

        await client.hub.stream("Counter", [5, 1], item, ended.put, ended.put)
        completion = await asyncio.wait_for(ended.get(), LIMIT)
        self.assertIsNone(completion.error)
        self.assertEqual(items, [0, 1, 2, 3, 4])

    async def test_a_stream_that_fails_says_so_behind_its_items(self):
        client = await self.client()
        items, ended = [], asyncio.Queue()

        async def item(item):
            items.append(item)

        await client.hub.stream("StreamHubExceptionMidway", [2, "no"], item, ended.put, ended.put)
        completion = await asyncio.wait_for(ended.get(), LIMIT)
        self.assertTrue(completion.error.endswith("HubException: no"), completion.error)
        self.assertEqual(items, [0, 1])

    async def test_a_stream_can_be_uploaded(self):
        client = await self.client()
        done = asyncio.Queue()
        client.hub.on("UploadDone", done.put)
        async with client.hub.client_stream("UploadThenNotify") as upload:
            for item in ["a", "b", "c"]:
                await upload.send(item)
        self.assertEqual(await asyncio.wait_for(done.get(), LIMIT), [3])

    @unittest.skipIf(PEER_IS_3_1, "3.1 does not ask clients for results")
    async def test_a_client_can_be_asked_for_a_result(self):
        client = await self.client()

        async def confirm(arguments):
            if arguments == ["fail"]:
                raise ValueError("I would rather not")
            return {"confirmed": arguments[0]}

        client.hub.on("Confirm", confirm)
        one = await client.invoke("GetCallerConnectionId")
        other = await self.client()
        self.assertEqual(await other.invoke("InvokeClient", one, "Confirm", "sure"), {"confirmed": "sure"})
        self.assertIn("I would rather not", await other.error("InvokeClient", one, "Confirm", "fail"))

    async def test_a_client_that_was_thrown_out_comes_back(self):
        client = await self.client()
        before = await client.invoke("GetCallerConnectionId")
        client.opened.clear()
        await client.hub.send("Abort", [])
        await asyncio.wait_for(client.opened.wait(), LIMIT)
        self.assertTrue(client.closed.is_set())
        self.assertNotEqual(await client.invoke("GetCallerConnectionId"), before)
        await client.invoke("CallCaller", "welcome back")
        self.assertEqual(await client.next(), ["welcome back"])

    async def test_a_client_that_says_too_much_at_once_is_told_that_it_was_an_error(self):
        client = await self.client()
        await client.hub.send("Echo", ["x" * 40_000])
        with self.assertRaisesRegex(ServerError, "Connection closed with an error."):
            await asyncio.wait_for(client.running, LIMIT)

    async def test_a_client_that_goes_away_is_gone(self):
        watcher, client = await self.client(), await self.client()
        gone = asyncio.Queue()
        watcher.hub.on("Disconnected", gone.put)
        await watcher.invoke("WatchDisconnects")
        connection = await client.invoke("GetCallerConnectionId")
        await client.stop()
        # Others of this hub may leave, too.
        while (await asyncio.wait_for(gone.get(), LIMIT))[0] != connection:
            pass


class InJson(Calls, unittest.IsolatedAsyncioTestCase):
    pass


@unittest.skipIf(PEER_IS_3_1, "the conformance hub of 3.1 speaks JSON only")
class InMessagePack(Calls, unittest.IsolatedAsyncioTestCase):
    protocol = MessagepackProtocol


if __name__ == "__main__":
    unittest.main()
