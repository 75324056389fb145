"""A page that is read from the database anew for every request, with a Session that is closed after it.

What the application does is right; ``cache_control`` in its settings is what it tells caches on the way.
"""

import json
import os
from urllib.parse import parse_qs

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

settings = json.loads(os.environ["LAB_APP"])
engine = create_engine(**settings["engine"])


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def application(environ, start_response):
    """``POST /?title=...`` saves, ``GET /`` shows."""
    with Session(engine) as session, session.begin():
        if environ["REQUEST_METHOD"] == "POST":
            session.execute(update(Page).values(title=parse_qs(environ["QUERY_STRING"])["title"][0]))
        body = session.scalars(select(Page.title)).one().encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    if settings["cache_control"]:
        headers.append(("Cache-Control", settings["cache_control"]))
    start_response("200 OK", headers)
    return [body]
