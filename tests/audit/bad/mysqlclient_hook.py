import os

from sqlalchemy import create_engine

engine = create_engine("mysql+mysqldb://shop@localhost/shop", poolclass=None)
# finds: forkers-hook-dispose
os.register_at_fork(after_in_child=engine.dispose)
