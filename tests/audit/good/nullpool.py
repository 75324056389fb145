from sqlalchemy import NullPool, create_engine

engine = create_engine("postgresql+psycopg2://shop@localhost/shop", poolclass=NullPool)
