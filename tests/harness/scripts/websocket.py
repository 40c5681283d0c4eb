"""Echoes messages: `serve ADDRESS PORT`. Sends them until standard input ends: `send HOST PORT ROOT`."""

import asyncio
import select
import ssl
import sys

import websockets


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def serve(address, port):
    async with websockets.serve(echo, address, int(port), max_size=None):
        await asyncio.Future()


async def send(host, port, root):
    context = ssl.create_default_context(cafile=root)
    count = 0
    where = {"host": "127.0.0.1", "port": int(port), "ssl": context, "server_hostname": host}
    async with websockets.connect(f"wss://{host}/echo", max_size=None, **where) as connection:
        while not select.select([sys.stdin], [], [], 0)[0]:
            message = bytes([count % 256]) * (1 << 16 if count % 8 == 0 else 10)
            await connection.send(message)
            assert await asyncio.wait_for(connection.recv(), 10) == message
            count += 1
            await asyncio.sleep(0.02)
    print(count)


asyncio.run({"serve": serve, "send": send}[sys.argv[1]](*sys.argv[2:]))
