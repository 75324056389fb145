from celery import Celery
from celery.signals import worker_process_init
from sqlalchemy import create_engine

app = Celery("shop", broker="redis://")
engine = create_engine("postgresql+psycopg://shop@localhost/shop")


@worker_process_init.connect(weak=False)
def forget(**_):
    # finds: forkers-hook-dispose
    engine.dispose()
