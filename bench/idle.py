#!/usr/bin/env python3
"""Opens idle PostgreSQL sessions on 127.0.0.1 and holds them until a line comes on standard input.

Usage: PGPASSWORD=... bench/idle.py PORT COUNT. Speaks just enough of the protocol: a startup packet,
a password in clear when it is asked for, everything up to ReadyForQuery.
"""
import os
import socket
import struct
import sys


def signed_in(port: int, password: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    body = b"user\0bench\0database\0bench\0\0"
    connection.sendall(struct.pack("!II", 8 + len(body), 3 << 16) + body)
    stream = connection.makefile("rb")
    while True:
        tag, length = struct.unpack("!cI", stream.read(5))
        message = stream.read(length - 4)
        if tag == b"R" and message[:4] == struct.pack("!I", 3):
            connection.sendall(b"p" + struct.pack("!I", 5 + len(password)) + password + b"\0")
        elif tag == b"E":
            sys.exit(f"refused: {message!r}")
        elif tag == b"Z":
            stream.close()
            return connection


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    password = os.environ["PGPASSWORD"].encode()
    held = [signed_in(port, password) for _ in range(count)]
    print(len(held), flush=True)
    sys.stdin.readline()


main()
