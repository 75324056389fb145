"""A private Apache with mod_wsgi, in daemon or in embedded mode."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import components, evidence, keeper
from lab.databases import free_port
from lab.process import ROOT, LabError, folder, kept, unprivileged
from lab.servers import Server

# Everything that Apache writes lies in its folder. The modules are those that a WSGI application needs.
_CONFIG = """
ServerRoot "{home}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{home}/apache.pid"
DefaultRuntimeDir "{home}"
Mutex file:{home}
ErrorLog /dev/stderr
LogLevel warn wsgi:info
LoadModule mpm_{mpm}_module "{modules}/mod_mpm_{mpm}.so"
LoadModule authz_core_module "{modules}/mod_authz_core.so"
LoadModule wsgi_module "{wsgi}"
{pool}
KeepAlive Off
WSGIPythonPath "{path}"
WSGISocketPrefix "{home}/wsgi"
WSGIRestrictEmbedded {restrict}
{daemon}
WSGIScriptAlias / "{script}" process-group={group} application-group=%{{GLOBAL}}
<Directory "{home}">
    Require all granted
</Directory>
"""
_POOL = {
    # As many interpreters as are asked for, no fewer when it is quiet and no more under load.
    "prefork": "StartServers {p}\nMinSpareServers {p}\nMaxSpareServers {p}\nServerLimit {p}\nMaxRequestWorkers {p}",
    "threads": "StartServers {p}\nServerLimit {p}\nThreadsPerChild {t}\nMinSpareThreads {all}\nMaxSpareThreads {all}\n"
    "MaxRequestWorkers {all}",
}


@dataclass(frozen=True)
class Apache(Server):
    """A running Apache. ``mode`` is "daemon" or "embedded"; ``processes`` times ``threads`` interpreters answer."""

    mode: str
    processes: int
    threads: int

    def workers(self) -> list[int]:
        """The processes in which the application runs; in embedded mode those are Apache's own children."""
        children = [pid for pid in keeper.descendants(self.process.keeper.pid) if pid != self.master]
        return [pid for pid in children if self._is_daemon(pid) == (self.mode == "daemon")]

    def reload(self) -> list[int]:
        """Do what ``apachectl graceful`` does and return the new workers."""
        old = self.workers()
        os.kill(self.master, signal.SIGUSR1)
        return self.wait_for_workers(self.processes, other_than=old)

    def _is_daemon(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"(wsgi:lab)")
        return False


@contextlib.contextmanager
def apache(
    app: str,
    *,
    mode: str = "daemon",
    processes: int = 4,
    threads: int = 1,
    settings: Mapping[str, Any] = {},
    options: str = "",
    tries: int = 5,
) -> Iterator[Apache]:
    """A real Apache that runs the application of the module *app* with mod_wsgi, ready to answer.

    In embedded mode one thread per process means Apache's prefork MPM, several mean its worker MPM.

    Args:
        app: the module that holds ``application``.
        settings: what the application finds, as JSON, in ``LAB_APP``; ``home`` and ``workers`` are added.
        options: further options of ``WSGIDaemonProcess``.

    Raises:
        components.Missing: Apache or mod_wsgi is not there.
        LabError: it does not start; the message carries what it said last.
    """
    binary = components.need("apache")
    module = components.python_module("mod_wsgi", "apache").__path__[0]
    (wsgi,) = Path(module, "server").glob("mod_wsgi*.so")
    user = unprivileged()
    path = f"{ROOT}:{sysconfig.get_path('purelib')}"
    with folder(user) as home, contextlib.ExitStack() as stack:
        script = home / "application.wsgi"
        script.write_text(f"from {app} import application\n")
        values = {
            "home": home,
            "mpm": _mpm(mode, threads),
            "modules": subprocess.run(["apxs", "-q", "LIBEXECDIR"], capture_output=True, text=True).stdout.strip(),
            "wsgi": wsgi,
            "path": path,
            "script": script,
            "restrict": "On" if mode == "daemon" else "Off",
            "group": "lab" if mode == "daemon" else "%{GLOBAL}",
            "daemon": f"WSGIDaemonProcess lab processes={processes} threads={threads} display-name=(wsgi:lab) "
            f'home="{home}" python-path="{path}" {options}'
            if mode == "daemon"
            else "",
        }
        # In daemon mode Apache's own threads only pass requests on, and there are to be enough of them.
        p, t = (1, 25) if mode == "daemon" else (processes, threads)
        values["pool"] = _POOL["prefork" if values["mpm"] == "prefork" else "threads"].format(p=p, t=t, all=p * t)
        # Not WSGIPythonHome: mod_wsgi asks access(2), which knows nothing of capabilities (see _as_nobody).
        env = {"PYTHONHOME": sys.base_prefix}
        env["LAB_APP"] = json.dumps({**settings, "home": str(home), "workers": processes * threads})
        for attempt in range(tries):
            port = free_port()
            config = home / "apache.conf"
            config.write_text(_CONFIG.format(port=port, **values))
            command = [*_as_nobody(user), binary, "-DFOREGROUND", "-f", config]
            log = home / f"{attempt}.log"
            process = stack.enter_context(kept(command, home, name="Apache", env=env, log=log))
            try:
                server = Apache(process, port, home, mode, processes, threads)
                process.wait_for(lambda: "resuming normal operations" in process.text(), "start")  # noqa: B023
                break
            except LabError:
                if "Address already in use" not in process.text() or attempt == tries - 1:
                    raise
        evidence.saw("apache", re.search(r"Apache/(\S+)", components.version("apache"))[1])
        evidence.saw("mod_wsgi", re.search(r"mod_wsgi/(\S+)", process.text())[1])
        server.wait_for_workers(processes)
        yield server


def _mpm(mode: str, threads: int) -> str:
    if mode == "daemon":
        return "event"
    # A process of the event MPM may accept a request while all its threads are busy and another process has idle ones,
    # so that not every interpreter can be made to hold one.
    return "worker" if threads > 1 else "prefork"


def _as_nobody(user: int | None) -> list[str]:
    """Apache refuses to work as root. What only root may read, as a checkout in its home, it reads all the same."""
    if user is None:
        return []
    who = f"--reuid={user} --regid={user} --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
    return ["setpriv", *who.split()]
