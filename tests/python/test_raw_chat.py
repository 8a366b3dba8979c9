"""What clients that others wrote, of the hub and of no hub, hear of each other in a room of the chat."""

import asyncio
import logging
import os
import threading
import unittest
from urllib.parse import urlencode

from pysignalr.client import SignalRClient
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.types import HttpTransportType, HubProtocolEncoding
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support import LIMIT, PEER_IS_3_1, Heard

SERVER = os.environ.get("SERVER_URL", "").rstrip("/")


def enter(case, room, nickname):
    """A raw client that is in the room."""
    query = urlencode({"nickname": nickname, "room": room})
    url = f"{SERVER.replace('http://', 'ws://')}/api/chat?{query}"
    raw = case.enterContext(connect(url, open_timeout=LIMIT, close_timeout=LIMIT))
    # Who is answered is in the room.
    case.assertTrue(raw.ping().wait(LIMIT), "no pong")
    return raw


@unittest.skipIf(PEER_IS_3_1, "only the program has it")
class RawChat(unittest.TestCase):
    def setUp(self):
        self.assertTrue(SERVER, "SERVER_URL is not set: it must be where hubcast listens, for example http://127.0.0.1:8080")

    def test_raw_clients_hear_each_other(self):
        mira, ada = enter(self, "python 1", " Mira "), enter(self, "python 1", "Ada")
        for text in ["hello", "", "ü世🦀" * 1000]:
            mira.send(text)
            self.assertEqual(ada.recv(LIMIT), text)
        with self.assertRaises(ConnectionClosed) as closed:
            mira.send(b"bytes")
            mira.recv(LIMIT)
        self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (1003, "only texts can be said here"))

    def test_signalrcore_and_a_raw_client_hear_each_other(self):
        for encoding in [HubProtocolEncoding.text, HubProtocolEncoding.binary]:
            with self.subTest(encoding):
                room = f"python 2 {encoding}"
                options = {"transport": HttpTransportType.web_sockets}
                hub = HubConnectionBuilder().with_url(f"{SERVER}/chatHub", options=options)
                hub = hub.configure_logging(logging.CRITICAL).with_hub_protocol(encoding).build()
                opened, joined, heard = Heard(), Heard(), Heard()
                hub.on_open(lambda: opened("open"))
                hub.on("ReceiveMessage", heard)
                hub.start()
                opened.next()
                hub.invoke("JoinRoom", [room], joined)
                joined.next()
                self.assertEqual(heard.next()[0], "System")
                raw = enter(self, room, "Mira")
                raw.send("hello")
                self.assertEqual(heard.next(), ["Mira", "hello"])
                hub.send("SendMessage", [room, "Hugo", "hello, too"])
                self.assertEqual(raw.recv(LIMIT), "Hugo: hello, too")
                # What its thread hears when it shall end.
                threading.Timer(0.2, raw.send, ["goodbye"]).start()
                hub.stop()

    def test_pysignalr_and_a_raw_client_hear_each_other(self):
        for protocol in [JSONProtocol, MessagepackProtocol]:
            with self.subTest(protocol.__name__):
                asyncio.run(self.talk_with_pysignalr(protocol()))

    async def talk_with_pysignalr(self, protocol):
        room = f"python 3 {type(protocol).__name__}"
        hub = SignalRClient(f"{SERVER}/chatHub", protocol=protocol)
        opened, heard = asyncio.Event(), asyncio.Queue()

        async def note():
            opened.set()

        hub.on_open(note)
        hub.on("ReceiveMessage", heard.put)
        running = asyncio.create_task(hub.run())
        await asyncio.wait_for(opened.wait(), LIMIT)
        await hub.send("JoinRoom", [room])
        self.assertEqual((await asyncio.wait_for(heard.get(), LIMIT))[0], "System")
        raw = await asyncio.to_thread(enter, self, room, "Mira")
        raw.send("hello")
        self.assertEqual(await asyncio.wait_for(heard.get(), LIMIT), ["Mira", "hello"])
        await hub.send("SendMessage", [room, "Hugo", "hello, too"])
        self.assertEqual(await asyncio.to_thread(raw.recv, LIMIT), "Hugo: hello, too")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
