"""gRPC's own implementation as a peer of the gateway: `serve` or `call ADDRESS`. Messages are bytes."""

import sys
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

DATA = bytes(range(256))
LARGE = b"x" * (3 << 20)
OPTIONS = [("grpc.max_receive_message_length", -1)]


def unary(message, context):
    context.send_initial_metadata([("x-head", "1"), ("head-bin", DATA)])
    context.set_trailing_metadata([("x-tail", "2"), ("tail-bin", DATA), ("under_score", "3")])
    asked = dict(context.invocation_metadata())
    if message == b"metadata":
        return asked["x-asked"].encode() + asked["asked-bin"]
    if message == b"time":
        return str(context.time_remaining()).encode()
    return message


def fail(message, context):
    context.set_trailing_metadata([("x-why", "because")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "told so: 100%\n\u00e9")


def count(message, _context):
    for i in range(int(message)):
        yield str(i).encode()


def total(messages, _context):
    return str(sum(len(message) for message in messages)).encode()


def chat(messages, _context):
    yield from messages


def hang(_message, context):
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    return b""


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(16), options=OPTIONS)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Hang": grpc.unary_unary_rpc_method_handler(hang),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    state = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        service, word = line.split()
        state.set("" if service == "-" else service, health_pb2.HealthCheckResponse.ServingStatus.Value(word))
    server.stop(None)


def call(address):
    channel = grpc.insecure_channel(address, options=OPTIONS)
    one = channel.unary_unary("/test.Echo/Unary")
    asked = [("x-asked", "yes"), ("asked-bin", DATA)]
    answer, done = one.with_call(b"metadata", metadata=asked)
    assert answer == b"yes" + DATA, answer
    head, tail = dict(done.initial_metadata()), dict(done.trailing_metadata())
    assert (head["x-head"], head["head-bin"]) == ("1", DATA), head
    assert (tail["x-tail"], tail["tail-bin"], tail["under_score"]) == ("2", DATA, "3"), tail
    assert one(LARGE) == LARGE
    # It is rounded up a little on the way, by the library itself.
    assert 10 < float(one(b"time", timeout=20)) < 21

    assert list(channel.unary_stream("/test.Echo/Count")(b"200")) == [str(i).encode() for i in range(200)]
    assert channel.stream_unary("/test.Echo/Total")(iter([b"abc"] * 100)) == b"300"
    said = [str(i).encode() for i in range(100)]
    assert list(channel.stream_stream("/test.Echo/Chat")(iter(said))) == said

    failed = failure(lambda: channel.unary_unary("/test.Echo/Fail")(b""))
    assert failed.code() == grpc.StatusCode.FAILED_PRECONDITION, failed
    assert failed.details() == "told so: 100%\n\u00e9", failed
    assert dict(failed.trailing_metadata())["x-why"] == "because"

    late = failure(lambda: channel.unary_unary("/test.Echo/Hang")(b"", timeout=0.3))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED, late
    cut = failure(lambda: channel.unary_unary("/short.Echo/Hang")(b""))
    assert cut.code() == grpc.StatusCode.DEADLINE_EXCEEDED, cut
    # The server was told the same deadline: whoever is first says it.
    assert cut.details().startswith(("deadline: ", "Deadline Exceeded")), cut
    missing = failure(lambda: channel.unary_unary("/nobody.Here/Call")(b""))
    assert missing.code() == grpc.StatusCode.UNIMPLEMENTED, missing
    assert dict(missing.trailing_metadata())["x-tidegate-error"] == "no_route"
    page = failure(lambda: channel.unary_unary("/page.Service/Call")(b""))
    assert page.code() == grpc.StatusCode.UNAVAILABLE, page

    cancelled = channel.unary_unary("/test.Echo/Hang").future(b"")
    cancelled.cancel()
    assert failure(cancelled.result) is not None
    print("done", flush=True)


def failure(what):
    try:
        what()
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return error
    raise AssertionError("it did not fail")


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
