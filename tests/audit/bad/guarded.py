import os

from sqlalchemy import create_engine, event, exc

URL = os.environ["SHOP"]
engine = create_engine("mysql+mysqlconnector://shop@localhost/shop")


@event.listens_for(engine, "checkout")
# finds: uwsgi-pid-guard-spares-the-master
def refuse(connection, record, proxy):
    if record.info["pid"] != os.getpid():
        record.dbapi_connection = proxy.dbapi_connection = None
        raise exc.DisconnectionError("of another process")
