"""A relay to a database in the scene's own event loop, which can keep the server's answer back."""

from __future__ import annotations

import asyncio
import contextlib


class Relay:
    """Passes bytes between clients on ``port`` and the server on port *target* of loopback; to be used as a block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows, self.arrived = asyncio.Event(), asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """From now on keep back what the server says; ``arrived`` is set when it has said something."""
        self._flows.clear()
        self.arrived.clear()

    def release(self) -> None:
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, to_writer))
                    group.create_task(self._pump(to_reader, writer, answers=True))
            finally:
                to_writer.close()
                writer.close()
        self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if answers and not self._flows.is_set():
                    self.arrived.set()
                    await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
