from psycogreen.gevent import patch_psycopg
from sqlalchemy import create_engine

patch_psycopg()
engine = create_engine("postgresql+psycopg2://shop@localhost/shop")
