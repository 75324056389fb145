"""get(with_for_update=True) locks the new row and returns the old value: python FILE URL"""

import sys

from sqlalchemy import create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "upstream_account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


engine = create_engine(sys.argv[1], isolation_level="READ COMMITTED")
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add(Account(id=1, balance=100))

with Session(engine) as session:
    held = session.get(Account, 1)
    with engine.begin() as others:
        others.execute(update(Account).values(balance=500))
    locked = session.get(Account, 1, with_for_update=True)
    locked.balance += 10
    session.commit()
    print("500 were stored, 10 were added, and now there are", locked.balance)
