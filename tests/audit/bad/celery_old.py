from sqlalchemy import create_engine

BROKER_URL = "redis://"
CELERYD_CONCURRENCY = 8
# finds: forkers-respawn-inherits
CELERYD_MAX_TASKS_PER_CHILD = 50
# finds: forkers-share-the-connection
engine = create_engine("postgresql+psycopg://shop@localhost/shop")
