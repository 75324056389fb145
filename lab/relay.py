"""A TCP relay in front of a database that can hang up on everyone, as a proxy does that is restarted or tidies up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal


class Relay:
    """Passes bytes between clients on ``port`` and a server on loopback."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def hang_up(self, how: Literal["close", "reset"]) -> None:
        """End every connection in both directions: ``close`` says goodbye (FIN), ``reset`` does not (RST)."""
        asyncio.run_coroutine_threadsafe(self._hang_up(how), self._loop).result(30)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, to_writer}
        await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self._open.discard(writer)
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _hang_up(self, how: str) -> None:
        for writer in list(self._open):
            if how == "reset":
                # To linger for no time is to drop the connection without the usual goodbye.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        self._open.clear()

    async def _stop(self) -> None:
        self._server.close()
        await self._hang_up("close")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay to the server on port *target*, gone with the block."""
    running = Relay(target)
    try:
        yield running
    finally:
        running.stop()
