from sqlalchemy import inspect, select

CAUSES = ("an HTTP cache", "a held object", "the transaction's snapshot", "a replica behind its primary")


def which_cause(session, thing, attribute, primary, shown):
    """Look for one value at five places, from what the visitor is *shown* down to the *primary* (an engine)."""
    keys = zip(inspect(type(thing)).primary_key, inspect(thing).identity, strict=True)
    question = select(getattr(type(thing), attribute)).where(*(column == value for column, value in keys))
    with session.no_autoflush:
        engine = session.get_bind(mapper=type(thing), clause=question).engine
        seen = [shown, thing.__dict__.get(attribute, "(not loaded)"), session.scalar(question)]
    for place in (engine, primary):
        with place.connect() as connection:
            seen.append(connection.scalar(question))
    places = ("the visitor sees", "the object holds", "its transaction reads", "a new one reads", "the primary has")
    for place, value in zip(places, seen, strict=True):
        print(f"{place:22} {value!r}")
    # The deepest place that still has the old value is where it comes from.
    old = [cause for cause, value in zip(CAUSES, seen, strict=False) if value not in (seen[-1], "(not loaded)")]
    return old[-1] if old else "none of these"
