import logging
import os

from sqlalchemy import event

log = logging.getLogger("two_minute_test")
ASK = {"postgresql": "select pg_backend_pid()", "mysql": "select connection_id()", "mariadb": "select connection_id()"}


def tell_who_uses_what(engine):
    @event.listens_for(engine, "connect")
    def remember(dbapi_connection, record):
        cursor = dbapi_connection.cursor()
        cursor.execute(ASK[engine.dialect.name])
        record.info["backend"] = cursor.fetchone()[0]
        cursor.close()
        dbapi_connection.rollback()

    @event.listens_for(engine, "checkout")
    def tell(dbapi_connection, record, proxy):
        log.warning("process %s, backend %s", os.getpid(), record.info["backend"])
