"""The pages of :mod:`lab.apps.asgi_pages` once more, for an AsyncSession; they ask what those ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import func, select
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from lab.apps.asgi_pages import ASLEEP, OLD, Page, Pages, hit, load, spoil, texts


class AsyncPages(Pages):
    """Pages for an AsyncSession."""

    async def plain(self, session: Any) -> Response:
        return PlainTextResponse((await session.run_sync(load)).body)

    async def stream(self, session: Any) -> Response:
        return StreamingResponse(self._lazily(session and await session.run_sync(load)))

    async def _lazily(self, page: Page | None) -> AsyncIterator[str]:
        async with self.way.in_body(needed=page is None) as session:
            page = page or await session.run_sync(load)
            yield page.body
            for comment in await page.awaitable_attrs.comments:
                yield comment.text

    async def rows(self, session: Any) -> Response:
        return StreamingResponse(self._asking(session))

    async def _asking(self, session: Any) -> AsyncIterator[str]:
        async with self.way.in_body(needed=session is None) as own:
            yield OLD
            for part in await (session or own).run_sync(texts):
                yield part

    async def endless(self, session: Any) -> Response:
        return StreamingResponse(self._endlessly(session))

    async def _endlessly(self, session: Any) -> AsyncIterator[str]:
        async with self.way.in_body(needed=session is None) as own:
            yield (await (session or own).run_sync(load)).body
            for _ in range(3000):
                await asyncio.sleep(0.01)
                yield "."

    async def midfail(self, session: Any) -> Response:
        if session:
            await session.run_sync(spoil)
        return StreamingResponse(self._failing(session))

    async def _failing(self, session: Any) -> AsyncIterator[str]:
        async with self.way.in_body(needed=session is None) as own:
            if own:
                await own.run_sync(spoil)
            yield OLD
            raise RuntimeError("the stream fails")

    async def fail(self, session: Any) -> Response:
        await session.run_sync(spoil)
        raise RuntimeError("the view fails")

    async def refuse(self, session: Any) -> Response:
        await session.run_sync(spoil)
        raise HTTPException(409)

    async def flush(self, session: Any) -> Response:
        await session.run_sync(spoil)
        return PlainTextResponse(OLD)

    async def task_lazy(self, session: Any) -> Response:
        return PlainTextResponse(OLD, background=BackgroundTask(self._late, await session.run_sync(load)))

    async def _late(self, page: Page) -> None:
        self.said.append("asks")
        self.said[-1] = "".join(comment.text for comment in await page.awaitable_attrs.comments)

    async def task_query(self, session: Any) -> Response:
        await session.run_sync(load)
        return PlainTextResponse(OLD, background=BackgroundTask(self._query, session))

    async def _query(self, session: Any) -> None:
        self.said.append("asks")
        self.said[-1] = "".join(await self.way.again(session).run_sync(texts))

    async def slow(self, session: Any) -> Response:
        self.said.append("waits")
        await session.execute(select(func.pg_sleep(ASLEEP)))
        return PlainTextResponse(OLD)

    async def idle(self, session: Any) -> Response:
        await session.run_sync(load)
        self.said.append("waits")
        await asyncio.sleep(ASLEEP)
        return PlainTextResponse(OLD)

    async def next(self, session: Any) -> Response:
        await session.run_sync(hit)
        return PlainTextResponse("done")
