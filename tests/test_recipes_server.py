"""threaded_server: what its docstring promises, with a thread for each connection as the control."""

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading

import pytest
from sqlalchemy import NullPool, QueuePool, StaticPool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from lab.drivers import arguments
from lab.process import ROOT, environment, wait_until
from recipes.threaded_server import Refused, Server

SQLALCHEMY = {"newest": "", "oldest": str(ROOT / ".venv" / "oldest")}
ANYWHERE = ("127.0.0.1", 0)


@pytest.fixture
def engine(tmp_path):
    """A file of SQLite with a counter, behind a pool of two connections."""
    yield from _counting(create_engine(f"sqlite:///{tmp_path / 'bank.db'}", pool_size=2, max_overflow=0))


@pytest.fixture(params=["psycopg", "PyMySQL"])
def network_engine(request, database):
    """The same on PostgreSQL, and on MariaDB; who asks for a third connection is refused after a moment."""
    settings = arguments(request.param, database(request.param))
    yield from _counting(create_engine(**settings, pool_size=2, max_overflow=0, pool_timeout=0.2))


def _counting(engine):
    with engine.begin() as connection:
        connection.execute(text("create table counter (n int)"))
        connection.execute(text("insert into counter values (0)"))
    yield engine
    with engine.begin() as connection:
        connection.execute(text("drop table counter"))
    engine.dispose()


def _stored(engine):
    with engine.connect() as connection:
        return connection.scalar(text("select n from counter"))


def count(session, line):
    """Add what the line says, and answer the sum; some lines are more than it can bear."""
    session.execute(text("update counter set n = n + 1"))
    if line in RAISED:
        raise RAISED[line]
    if line == b"words\n":
        return "words"
    return b"%d\n" % session.scalar(text("select n from counter"))


RAISED = {b"error\n": ZeroDivisionError(), b"exit\n": SystemExit(3), b"refuse\n": Refused(b"not today\n")}


class Gate:
    """A handler that asks the database, and then waits until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.inside = 0

    def __call__(self, session, line):
        session.execute(text("select n from counter"))
        self.inside += 1
        assert self.open.wait(30)
        return line


@contextlib.contextmanager
def serving(handle, engine, **options):
    server = Server(ANYWHERE, handle, sessionmaker(engine), **{"workers": 2, **options})
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
    assert not thread.is_alive()


class Client:
    def __init__(self, server):
        self.socket = socket.create_connection(server.address, timeout=30)
        self.lines = self.socket.makefile("rwb", 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def send(self, data):
        self.lines.write(data)
        return self

    def hear(self):
        return self.lines.readline()

    def ask(self, data):
        return self.send(data).hear()


def test_who_is_too_much_is_told_busy_at_once(network_engine):
    """Two work, one waits, and the others hear "busy" while all of these are still at it."""
    gate = Gate()
    with serving(gate, network_engine, waiting=1) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(6)]
        accepted, others = clients[:3], clients[3:]
        for client in accepted:
            client.send(b"mine\n")
        wait_until(lambda: gate.inside == 2 and server._inside == 3, "two at work and one who waits")

        assert [b"busy\n"] * 3 == [client.ask(b"mine\n") for client in others]
        gate.open.set()
        assert [b"mine\n"] * 3 == [client.hear() for client in accepted]
        assert b"again\n" == others[0].ask(b"again\n")
    assert 0 == network_engine.pool.checkedout()


def test_a_thread_for_each_connection_exhausts_the_pool(network_engine):
    """The control: the same six clients, and who is too much gets an exception of the pool."""
    gate, failed = Gate(), []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            try:
                with Session(network_engine) as session:
                    self.wfile.write(gate(session, self.rfile.readline()))
            except PoolTimeout as problem:
                failed.append(problem)

    with socketserver.ThreadingTCPServer(ANYWHERE, Handler) as server, contextlib.ExitStack() as stack:
        server.address = server.server_address
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        clients = [stack.enter_context(Client(server)).send(b"mine\n") for _ in range(6)]
        wait_until(lambda: len(failed) == 4, "four exceptions of the pool")
        gate.open.set()
        server.shutdown()

        assert [b"", b"", b"", b"", b"mine\n", b"mine\n"] == sorted(client.hear() for client in clients)


def test_each_request_has_a_session_of_its_own(network_engine):
    """No two requests share one, and its transaction is committed before the reply is sent."""
    seen = []

    def handle(session, line):
        seen.append(session)
        return count(session, line)

    with serving(handle, network_engine) as server, Client(server) as client, Client(server) as other:
        replies = [one.ask(b"1\n") for one in (client, other, client)]

        assert 3 == _stored(network_engine)
    assert [b"1\n", b"2\n", b"3\n"] == replies
    assert 3 == len(set(map(id, seen)))


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"error\n", b"error\n"), (b"exit\n", b"error\n"), (b"words\n", b"error\n"), (b"refuse\n", b"not today\n")],
)
def test_what_a_handler_raises_is_rolled_back_and_told(engine, line, told):
    """An error, sys.exit(), a reply that is no bytes, a refusal: nothing is stored, and the server lives."""
    with serving(count, engine, workers=1) as server, Client(server) as client:
        assert [told, b"1\n"] == [client.ask(line), client.ask(b"1\n")]
    assert 1 == _stored(engine)


def test_idle_clients_cost_no_worker(engine):
    """More clients than workers are connected and silent, or in the middle of a line, and another one is served."""
    with serving(count, engine, workers=1) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(Client(server)).send(b"half a li")

        assert b"1\n" == stack.enter_context(Client(server)).ask(b"1\n")


def test_a_client_that_stays_idle_is_let_go(engine):
    """Who sends no line in time is let go."""
    with serving(count, engine, idle=0.2) as server, Client(server) as client:
        assert b"" == client.hear()


def test_a_line_that_is_cut_off_is_not_served(engine):
    """ "ADD 1 10" may have been the beginning of "ADD 1 100"; and a line without end is not waited for."""
    with serving(count, engine) as server:
        with Client(server) as client:
            client.send(b"1").socket.shutdown(socket.SHUT_WR)
            assert b"" == client.hear()
        with Client(server) as client, contextlib.suppress(ConnectionError):
            assert b"" == client.ask(b"1" * 200_000)
    assert 0 == _stored(engine)


def test_lines_that_come_together_are_answered_in_order(engine):
    """A client may send several lines before it hears."""
    with serving(count, engine) as server, Client(server) as client:
        client.send(b"1\n" * 5)

        assert [b"%d\n" % n for n in range(1, 6)] == [client.hear() for _ in range(5)]


def test_a_client_that_is_gone_ends_nothing(engine):
    """Its request is finished and stored, and others are served."""
    gate = Gate()

    def handle(session, line):
        gate(session, line)
        return count(session, line)

    with serving(handle, engine) as server:
        with Client(server) as client:
            client.send(b"1\n")
            wait_until(lambda: gate.inside == 1, "the request")
        gate.open.set()
        with Client(server) as other:
            wait_until(lambda: _stored(engine) == 1, "what the client wanted")

            assert b"2\n" == other.ask(b"1\n")


def test_no_more_clients_than_it_may_have(engine):
    """The next one is told, and let go; when one leaves there is room again."""
    with serving(count, engine, clients=1) as server:
        with Client(server) as first, Client(server) as second:
            assert [b"1\n", b"busy\n", b""] == [first.ask(b"1\n"), second.hear(), second.hear()]

        def served():
            with Client(server) as third:
                return third.ask(b"1\n") == b"2\n"

        assert wait_until(served, "room for another")


def test_stop_finishes_what_was_accepted(engine):
    """Who is at work and who waits is answered, idle clients are let go, new ones are refused."""
    gate = Gate()
    server = Server(ANYWHERE, gate, sessionmaker(engine), workers=1, waiting=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    with Client(server) as working, Client(server) as waiting, Client(server) as idle:
        working.send(b"working\n")
        wait_until(lambda: gate.inside == 1, "the request")
        waiting.send(b"waiting\n")
        wait_until(lambda: server._inside == 2, "the other one")
        server.stop()

        assert b"" == idle.hear()
        with pytest.raises(ConnectionError):
            Client(server)
        gate.open.set()
        assert [b"working\n", b"waiting\n", b""] == [working.hear(), waiting.hear(), working.hear()]
        thread.join(30)
    assert not thread.is_alive()
    server.stop()


def test_one_that_is_stopped_before_it_runs_does_not_run(engine):
    """The order of stop() and run() in two threads does not matter."""
    server = Server(ANYWHERE, count, sessionmaker(engine), workers=1)
    server.stop()
    server.run()

    with pytest.raises(ConnectionError):
        Client(server)


PROGRAM = """
import sys, time
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from recipes.threaded_server import Server

def handle(session, line):
    print("at work", flush=True)
    time.sleep(1)
    return line

server = Server(("127.0.0.1", 0), handle, sessionmaker(create_engine("sqlite://")), workers=2)
print(server.address[1], flush=True)
server.run()
print("done", flush=True)
"""


@pytest.mark.parametrize("sqlalchemy", SQLALCHEMY)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_stops_it(how, sqlalchemy):
    """Ctrl-C and SIGTERM let it answer what it is at, and end the program in the ordinary way."""
    env = environment({"PYTHONPATH": os.pathsep.join(filter(None, [SQLALCHEMY[sqlalchemy], str(ROOT)]))})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-W", "error", "-c", PROGRAM], env=env, **pipes) as program:
        try:
            port = int(program.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), 30) as client, client.makefile("rwb", 0) as lines:
                lines.write(b"mine\n")
                assert "at work\n" == program.stdout.readline()
                program.send_signal(how)

                assert [b"mine\n", b""] == [lines.readline(), lines.readline()]
            assert ("done\n", "") == program.communicate(timeout=30)
            assert 0 == program.returncode
        finally:
            program.kill()


@pytest.mark.parametrize(
    ("pool", "workers", "most"),
    [
        ({"poolclass": QueuePool, "pool_size": 2, "max_overflow": 1}, 4, "a pool of 3"),
        ({"poolclass": StaticPool}, 2, "a pool of 1"),
        ({"poolclass": QueuePool, "pool_size": 2, "max_overflow": 1}, 3, ""),
        ({"poolclass": QueuePool, "pool_size": 2, "max_overflow": -1}, 9, ""),
        ({"poolclass": QueuePool, "pool_size": 0}, 9, ""),
        ({"poolclass": NullPool}, 9, ""),
    ],
)
def test_workers_fit_the_pool(pool, workers, most):
    """More workers than connections are refused at the start, where their number can be known."""
    engine = create_engine("sqlite://", **pool)
    refused = pytest.raises(ValueError, match=most) if most else contextlib.nullcontext()
    with refused:
        Server(ANYWHERE, count, sessionmaker(engine), workers=workers)._socket.close()
    engine.dispose()


def test_sessions_that_are_bound_by_class_are_taken_as_they_are():
    """Which pool they use is not known before they are used."""

    class Base(DeclarativeBase):
        pass

    engine = create_engine("sqlite://")
    Server(ANYWHERE, count, sessionmaker(binds={Base: engine}), workers=99)._socket.close()
    engine.dispose()


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"waiting": -1}, {"idle": 0}, {"clients": 0}])
def test_numbers_that_make_no_sense_are_refused(engine, wrong):
    """One line says which numbers there may be."""
    with pytest.raises(ValueError, match="must be positive, and waiting must not be negative"):
        Server(ANYWHERE, count, sessionmaker(engine), **{"workers": 1, **wrong})


def test_an_address_that_is_taken_is_told_at_once(engine):
    """The socket is bound when the server is made, so a taken port is no surprise later."""
    with socket.create_server(ANYWHERE) as taken, pytest.raises(OSError, match="in use"):
        Server(taken.getsockname(), count, sessionmaker(engine), workers=1)
