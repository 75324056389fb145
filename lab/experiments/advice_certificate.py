"""The same valid certificate with and without a connection at the fork, and a certificate that is not valid (C09)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from lab import components
from lab.databases import Database, postgresql
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import folder, play, unprivileged
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

SCENE = "lab.scenes.advice_certificate"
DRIVERS = ("psycopg2", "psycopg")
VERSIONS = ("TLSv1.3", "TLSv1.2")
CONNECTED, NOTHING, WRONG = "one SELECT before the fork", "nothing connected", "another authority's certificate"

QUIET = Check("names_certificate", "==", False)
FAILS = [Check("before", "==", "right"), Check("error", ">=", 1), Check("wrong", "==", 0), QUIET]
CLEAN = [Check("before", "==", "nobody asked"), Check("bad", "==", 0), Check("right", "==", 3), QUIET]
REFUSED = [Check("before", "==", "error"), Check("error", "==", 3), Check("names_certificate", "==", True)]


@dataclass(frozen=True)
class Place:
    """A server with a certificate; *authority* has issued it, and *stranger* has not."""

    database: Database
    authority: Path
    stranger: Path


@experiment("tls-certificate-is-not-the-cause", uses=["lab/scenes/advice_certificate.py"])
def certificate(effort: Effort) -> Iterator[Arm]:
    arms: tuple[tuple[Role, str, list[Check]], ...] = (
        ("hazard", CONNECTED, FAILS),
        ("control", NOTHING, CLEAN),
        ("control", WRONG, REFUSED),
    )
    with contextlib.ExitStack() as stack:
        places: list[Place] = []
        for name in DRIVERS[: effort.pick(2, 1)]:
            for version in VERSIONS[: effort.pick(2, 1)]:
                for role, moment, checks in arms:
                    mode = f"verify-full, {version}"
                    it = Setup("postgresql", name, True, "os.fork", workers=2, requests=3, moment=moment, mode=mode)
                    tls = [] if moment == WRONG else [Check("tls", "==", version)]

                    def run(it: Setup = it, version: str = version) -> Iterator[Trial]:
                        components.need("postgresql-tls")
                        places[:] = places or [_place(stack)]
                        return (_trial(it, version, places[0]) for _ in range(effort.pick(3, 1)))

                    yield arm(f"{name}, {version}, {moment}", role, it, [*checks, *tls], run)


def _place(stack: contextlib.ExitStack) -> Place:
    user = unprivileged()
    home = stack.enter_context(folder(user))
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(home / "server.crt")
    issued.private_key_pem.write_to_path(home / "server.key")
    authority.cert_pem.write_to_path(home / "authority.crt")
    stranger.cert_pem.write_to_path(home / "stranger.crt")
    (home / "server.key").chmod(0o600)
    if user is not None:
        for name in ("server.crt", "server.key"):
            shutil.chown(home / name, user)
    settings = {"ssl": "on", "ssl_cert_file": str(home / "server.crt"), "ssl_key_file": str(home / "server.key")}
    database = stack.enter_context(postgresql(settings=settings))
    return Place(database, home / "authority.crt", home / "stranger.crt")


def _trial(it: Setup, version: str, place: Place) -> Trial:
    """Facts: ``before``, what became of the question before the fork; ``tls``, the versions that were spoken;
    ``names_certificate``, whether a message does."""
    root = place.stranger if it.moment == WRONG else place.authority
    how = {"sslmode": "verify-full", "sslrootcert": str(root)}
    how |= {"ssl_min_protocol_version": version, "ssl_max_protocol_version": version}
    engine = {**arguments(it.driver, place.database, tls=True), "connect_args": how}
    got = play(SCENE, engine=engine, before=it.moment != NOTHING)
    tally = Tally.of(Outcome(**answer["outcome"]) for answer in got["after"])
    before = [answer["outcome"] for answer in got["before"]]
    said = " ".join([*tally.messages, *(outcome.get("message", "") for outcome in before)])
    spoken = {answer["tls"] for answer in [*got["before"], *got["after"]]} - {""}
    facts = {
        "before": before[0]["kind"] if before else "nobody asked",
        "tls": ", ".join(sorted(spoken)),
        "names_certificate": "certificate" in said,
    }
    return Trial(tally, facts=facts)
