#!/usr/bin/env python3
"""A gRPC server for the TLS run, with the standard health service: grpcio's own, not ours.

    tls_grpc_server.py NAME PORT

Messages of service `evenkeel.Test` are bytes as they are, without protobuf. Every answer names the server in the
trailing field `x-server`.

    Echo     the message back
    Fail     ends with the status `CODE TEXT` of the message
    Sleep    answers after so many milliseconds; Cancelled says how often a client did not wait for it
    Count    a stream of messages 0, 1, 2, … so many, one every so many milliseconds: `COUNT MILLISECONDS`
    Sum      the number of messages and of bytes of a stream
    Chat     each message of a stream back
    Serving  sets the health of service `test`: `yes` or `no`
"""

import asyncio
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Test:
    def __init__(self, name):
        self.name = name
        self.cancelled = 0
        self.health = health.aio.HealthServicer()

    def sign(self, context):
        context.set_trailing_metadata((("x-server", self.name), ("x-note-bin", b"\x00\xff")))

    async def echo(self, message, context):
        self.sign(context)
        return message

    async def fail(self, message, context):
        self.sign(context)
        code, _, text = message.decode().partition(" ")
        await context.abort(CODES[int(code)], text)

    async def sleep(self, message, context):
        self.sign(context)
        try:
            await asyncio.sleep(int(message) / 1000)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return message

    async def times_cancelled(self, _message, context):
        self.sign(context)
        return str(self.cancelled).encode()

    async def count(self, message, context):
        count, pause_ms = (int(n) for n in message.split())
        await context.send_initial_metadata((("x-server", self.name),))
        for i in range(count):
            yield str(i).encode()
            await asyncio.sleep(pause_ms / 1000)
        self.sign(context)

    async def sum(self, messages, context):
        count = size = 0
        async for message in messages:
            count, size = count + 1, size + len(message)
        self.sign(context)
        return f"{count} {size}".encode()

    async def chat(self, messages, context):
        await context.send_initial_metadata((("x-server", self.name),))
        async for message in messages:
            yield message
        self.sign(context)

    async def serving(self, message, _context):
        states = health_pb2.HealthCheckResponse
        await self.health.set("test", states.SERVING if message == b"yes" else states.NOT_SERVING)
        return b""


async def run(name, port):
    test = Test(name)
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("evenkeel.Test", {
        "Echo": grpc.unary_unary_rpc_method_handler(test.echo),
        "Fail": grpc.unary_unary_rpc_method_handler(test.fail),
        "Sleep": grpc.unary_unary_rpc_method_handler(test.sleep),
        "Cancelled": grpc.unary_unary_rpc_method_handler(test.times_cancelled),
        "Count": grpc.unary_stream_rpc_method_handler(test.count),
        "Sum": grpc.stream_unary_rpc_method_handler(test.sum),
        "Chat": grpc.stream_stream_rpc_method_handler(test.chat),
        "Serving": grpc.unary_unary_rpc_method_handler(test.serving),
    }),))
    health_pb2_grpc.add_HealthServicer_to_server(test.health, server)
    await test.health.set("test", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
