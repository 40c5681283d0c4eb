"""gRPC without generated code. `serve ADDRESS PORT`; `talk HOST PORT ROOT` until standard input ends."""

import concurrent.futures
import select
import sys
import threading
import time

import grpc

METHOD = "/tests.Echo/Talk"


def talk(requests, context):
    count = 0
    context.send_initial_metadata((("begun", "yes"),))
    for request in requests:
        count += 1
        yield request
    context.set_trailing_metadata((("count", str(count)),))
    if count % 2 == 1:
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "an odd number of messages")


def serve(address, port):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    handler = grpc.stream_stream_rpc_method_handler(talk)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", {"Talk": handler}),))
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


def client(host, port, root):
    with open(root, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = (("grpc.ssl_target_name_override", host), ("grpc.default_authority", host), ("grpc.enable_http_proxy", 0))
    channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)
    method = channel.stream_stream(METHOD)
    count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        length = 10 + count % 3
        arrived = threading.Semaphore(1)

        def messages():
            for number in range(length):
                # The next only once the last came back: both ways are open at once.
                assert arrived.acquire(timeout=10)
                yield bytes([number]) * (1 + number * 4000)

        call = method(messages(), timeout=30)
        got = []
        error = None
        try:
            for message in call:
                got.append(message)
                arrived.release()
        except grpc.RpcError as raised:
            error = raised
        assert [len(m) for m in got] == [1 + n * 4000 for n in range(length)], got
        assert ("begun", "yes") in [tuple(m)[:2] for m in call.initial_metadata()]
        assert ("count", str(length)) in [tuple(m)[:2] for m in call.trailing_metadata()], call.trailing_metadata()
        wanted = grpc.StatusCode.OUT_OF_RANGE if length % 2 == 1 else grpc.StatusCode.OK
        assert call.code() == wanted and (error is None) == (length % 2 == 0), (call.code(), call.details())
        count += length
        time.sleep(0.01)
    print(count)


{"serve": serve, "talk": client}[sys.argv[1]](*sys.argv[2:])
