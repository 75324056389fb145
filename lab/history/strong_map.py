"""A Session loads a row, lets go of the object, and reads again after another Session has written: in any release.

Runs on Python 2.7 and newer, with SQLAlchemy 0.3 and newer. Prints what it saw as one JSON object.

Usage: ``python strong_map.py FILE KEEPS MAP``: a new SQLite file; ``held`` or ``released``; and how the identity map is
to be: ``default``, or ``weak`` or ``strong`` where the release has the choice.
"""

import gc
import json
import platform
import sqlite3
import sys

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine

try:
    from sqlalchemy.orm import Session, registry
except ImportError:
    registry = None

    from sqlalchemy.orm import create_session, mapper


class Page(object):  # noqa: UP004 - in Python 2, a class of the old kind cannot be mapped
    pass


def main(path, keeps, identity_map):
    database = sqlite3.connect(path)
    database.execute("create table page (id integer primary key, body varchar(20))")
    database.execute("insert into page values (1, 'old')")
    database.commit()
    engine = create_engine("sqlite:///" + path)
    metadata = MetaData()
    pages = Table("page", metadata, Column("id", Integer, primary_key=True), Column("body", String(20)))
    (registry(metadata=metadata).map_imperatively if registry else mapper)(Page, pages)

    reader, writer = session(engine, identity_map), session(engine, "default")
    loaded = get(reader)
    first = str(loaded.body)
    if keeps == "released":
        loaded = None
        gc.collect()
    in_map = len(list(reader.identity_map.values()))

    get(writer).body = "new"
    writer.flush()
    if registry:
        writer.commit()

    return {
        "first": first,
        "in_map": in_map,
        "query": str(everything(reader)[0].body),
        "get": str(get(reader).body),
        "stored": database.execute("select body from page").fetchone()[0],
        "python": platform.python_version(),
    }


def session(engine, identity_map):
    if registry:
        return Session(engine)
    options = {} if identity_map == "default" else {"weak_identity_map": identity_map == "weak"}
    return create_session(bind=engine, **options)


def get(session):
    return session.get(Page, 1) if registry else session.query(Page).get(1)


def everything(session):
    query = session.query(Page)
    return query.all() if hasattr(query, "all") else query.select()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
