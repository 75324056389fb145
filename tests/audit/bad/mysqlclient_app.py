from sqlalchemy import create_engine

# finds: uwsgi-non-cures
engine = create_engine("mysql://shop@localhost/shop", pool_pre_ping=True, pool_recycle=3600)
