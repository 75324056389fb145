from sqlalchemy import create_engine

# finds: greenlet-freezes-with-psycopg2
first = create_engine("postgresql+psycopg2://shop@localhost/shop")
# finds: greenlet-freezes-with-psycopg2
second = create_engine("mysql+mysqldb://shop@localhost/shop")
