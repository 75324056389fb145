from celery import Celery
from sqlalchemy import create_engine

app = Celery("shop", broker="redis://")
# finds: forkers-respawn-inherits
app.conf.worker_max_tasks_per_child = 100
app.conf.update(worker_concurrency=4)
# finds: forkers-share-the-connection
engine = create_engine("postgresql+psycopg://shop@localhost/shop")
