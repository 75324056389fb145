from celery import Celery
from celery_postfork import install
from sqlalchemy import create_engine

app = Celery("shop", broker="redis://")
app.conf.worker_max_tasks_per_child = 100
engine = create_engine("mysql+mysqldb://shop@localhost/shop")
install(engine)
