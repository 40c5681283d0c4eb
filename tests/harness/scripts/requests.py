"""Requests on one TLS connection until standard input ends: HOST PORT ROOT."""

import select
import socket
import ssl
import sys

host, port, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
plain = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
connection = context.wrap_socket(plain, server_hostname=host)
stream = connection.makefile("rb")
count = 0
while not select.select([sys.stdin], [], [], 0.05)[0]:
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    status = stream.readline()
    assert status.startswith(b"HTTP/1.1 200 "), f"request {count}: {status!r}"
    length = None
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        assert name.lower() != b"connection", line
        if name.lower() == b"content-length":
            length = int(value)
    assert len(stream.read(length)) == length
    count += 1
print(count)
