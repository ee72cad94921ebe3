"""A PostgreSQL and a Hedgerow in front of it, for as long as a suite runs.

The policy is that of an application with one tenant whose migrations run through Hedgerow: every table is
`shared`, the caller may change the schema, the extensions' functions are open. Everything else is denied as
for anybody: what a suite loses here, an unmodified application would lose.
"""

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

EXTENSIONS = ("bloom", "btree_gin", "btree_gist", "citext", "hstore", "pg_trgm", "pgcrypto", "unaccent", "uuid-ossp")
SCHEMAS = ("public", "test_schema", "test_schema_2", "django_test")
ISSUER, AUDIENCE = "https://suites.example/", "suites"
READY_SECONDS = 30

CONFIGURATION = """\
identity:
  tenant_claim: tenant_id
  issuers:
    - {{issuer: "{issuer}", audiences: [{audience}], algorithms: [HS256], hmac_secret_file: secret}}
postgres:
  listen: 127.0.0.1:{listen}
  upstream: {{host: 127.0.0.1, port: {port}, user: suite, password_file: upstream, tls: {{mode: disable}}}}
  pool: {{mode: {mode}, max_connections: 40}}
  limits: {{max_statement: 8MiB}}
policies: policies/
audit: {{directory: audit}}
admin: {{listen: "127.0.0.1:{admin}"}}
log: {{format: text, level: warn}}
"""
POLICY = """\
engine: postgres
tables: {{{tables}}}
functions: {{allow: [{functions}]}}
ddl: {{claim: role, in: [migrator]}}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class World:
    """The servers. `direct` and `hedgerow` are what a client needs to reach a database either way."""

    def __init__(self, binary, pool_mode):
        self.binary, self.pool_mode = str(binary), pool_mode
        self.directory = Path(tempfile.mkdtemp(prefix="hedgerow-suites-"))
        self.own, self.servers = self.directory / "own", self.directory / "servers"
        self.port, self.listen, self.admin = free_port(), free_port(), free_port()
        self.programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.hedgerow_process = None

    def __enter__(self):
        self.directory.chmod(0o755)
        self.own.mkdir(mode=0o700)
        self.servers.mkdir()
        try:
            self._start_postgres()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop_hedgerow()
        with contextlib.suppress(subprocess.SubprocessError):
            self._as_server("pg_ctl", "stop", "-s", "-m", "immediate", "-D", self.servers / "data")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _as_server(self, program, *arguments):
        """PostgreSQL's programs refuse to run as root."""
        account = [] if os.getuid() else ["runuser", "-u", "postgres", "--"]
        command = [*account, f"{self.programs}/{program}", *map(str, arguments)]
        subprocess.run(command, check=True, cwd=self.servers, stdout=subprocess.DEVNULL)

    def _start_postgres(self):
        if not os.getuid():
            os.chown(self.servers, pwd.getpwnam("postgres").pw_uid, -1)
        data = self.servers / "data"
        self._as_server("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D", data)
        with (data / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{self.servers}'\n"
                "fsync = off\nmax_prepared_transactions = 10\nmax_connections = 200\nshared_buffers = 256MB\n"
            )
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self._as_server("pg_ctl", "start", "-s", "-w", "-D", data, "-l", self.servers / "log")
        with self.superuser("template1") as connection:
            connection.execute("CREATE ROLE suite LOGIN PASSWORD 'suite'")
            for extension in EXTENSIONS:
                connection.execute(f'CREATE EXTENSION "{extension}"')

    def superuser(self, database):
        return psycopg.connect(host=str(self.servers), port=self.port, user="postgres", dbname=database, autocommit=True)

    def fresh(self, *databases):
        """Empty databases of the suite's role, in place of those of that name."""
        with self.superuser("postgres") as connection:
            for database in databases:
                connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
                connection.execute(f"CREATE DATABASE {database} OWNER suite")
        for database in databases:
            with self.superuser(database) as connection:
                for schema in SCHEMAS[1:]:
                    connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION suite")

    def start_hedgerow(self):
        """Starts it and gives what the tenant signs in with."""
        self.stop_hedgerow()
        shutil.rmtree(self.own)
        (self.own / "policies").mkdir(parents=True)
        (self.own / "secret").write_text(secrets.token_hex(32))
        (self.own / "upstream").write_text("suite")
        for file in ("secret", "upstream"):
            (self.own / file).chmod(0o600)
        with self.superuser("template1") as connection:
            names = connection.execute(
                "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
            ).fetchall()
        (self.own / "policies/suite.yaml").write_text(POLICY.format(
            tables=", ".join(f'"{schema}.*": shared' for schema in SCHEMAS),
            functions=", ".join(f"public.{name}" for (name,) in names),
        ))
        (self.own / "hedgerow.yaml").write_text(CONFIGURATION.format(
            issuer=ISSUER, audience=AUDIENCE, listen=self.listen, port=self.port, mode=self.pool_mode, admin=self.admin,
        ))
        log = (self.own / "log").open("w")
        command = [self.binary, "serve", "--config", "hedgerow.yaml"]
        self.hedgerow_process = subprocess.Popen(command, cwd=self.own, stdout=log, stderr=log)
        end = time.monotonic() + READY_SECONDS
        while True:
            if self.hedgerow_process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"Hedgerow did not start:\n{(self.own / 'log').read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.listen), timeout=1):
                break
            time.sleep(0.05)
        claims = f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"suite","tenant_id":"suite","role":"migrator"}}'
        minted = [self.binary, "token", "--key", "secret", "--ttl", "12h", "--claims", claims]
        return subprocess.run(minted, cwd=self.own, check=True, capture_output=True, text=True).stdout.strip()

    def stop_hedgerow(self):
        """SIGTERM; what it logged goes to standard output."""
        if self.hedgerow_process is None:
            return
        self.hedgerow_process.terminate()
        self.hedgerow_process.wait(timeout=60)
        self.hedgerow_process = None
        if log := (self.own / "log").read_text().strip():
            print("Hedgerow logged:", *log.splitlines()[-10:], sep="\n  ")
