from sqlalchemy import create_engine
from uwsgi_postfork import install

engine = create_engine("mysql+mysqldb://shop@localhost/shop", pool_pre_ping=True)
install(engine)
