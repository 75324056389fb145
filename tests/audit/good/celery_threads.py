from celery import Celery
from sqlalchemy import create_engine

app = Celery("shop", broker="redis://")
app.conf.update(worker_pool="threads", worker_concurrency=8)
engine = create_engine("postgresql+psycopg2://shop@localhost/shop")
