import guarded
from sqlalchemy import create_engine
from uwsgidecorators import postfork

first = create_engine("postgresql+psycopg2://shop@localhost/shop")
second = create_engine(guarded.URL)


@postfork
def forget():
    # finds: uwsgi-dispose-kills-the-master
    first.dispose()
    forget_the_other()


def forget_the_other():
    # finds: uwsgi-close-false-spares-the-master
    second.dispose(close=False)
