from celery import Celery

app = Celery("shop", broker="redis://", include=["listed_tasks"])
