"""A fast MQTT publisher: how many messages a second does a server acknowledge?

    python -m bench.load_mqtt --port 1883 --connections 200 --inflight 10 --qos 1 --count 1000000

Poses of robots of their own, about 140 bytes, with every packet built before the clock starts. One
epoll loop without asyncio: it must cost less than the server it measures. A connection has at most
``--inflight`` messages unacknowledged at QoS 1 and 2; at QoS 0 it writes as fast as it is read, and
a last QoS 1 message tells that the server has taken all of it.
"""

import argparse
import json
import os
import selectors
import socket
import time
from dataclasses import dataclass, field

_CYCLE = (
    4_096  # packets built per connection; ids and poses repeat after them, at 4 in flight or more
)
_CHUNK = 262_144  # bytes written at once


@dataclass
class Load:
    """What to send, and where."""

    host: str = "127.0.0.1"
    port: int = 1883
    connections: int = 1
    inflight: int = 1_000
    qos: int = 1
    count: int = 1_000_000
    version: int = 4
    topic: str = "smartair/v1/home/bench-{n:04d}/pose"
    cpu: int | None = None


@dataclass
class Peer:
    """One connection. ``ends`` says where each packet in ``data`` ends."""

    sock: socket.socket
    data: memoryview
    ends: list[int]
    left: int  # still to be sent
    queued: int = 0  # handed to the socket, or about to be
    confirmed: int = 0
    position: int = 0  # in the cycle, in packets
    offset: int = 0  # in data, in bytes: how far the socket took it
    rest: bytes = b""
    last: bytes = b""
    released: bytearray = field(default_factory=bytearray)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pose(n: int, seq: int) -> bytes:
    """Return the payload of a pose, about 140 bytes."""
    x, y = (seq * 37 + n) % 20_000 / 1_000, (seq * 53 + n) % 15_000 / 1_000
    return (
        f'{{"x":{x:.3f},"y":{y:.3f},"theta":{seq % 6283 / 1000 - 3.141:.4f},"vx":0.4200,'
        f'"vy":0.0100,"omega":0.0500,"map":"floor-1","localized":true,"seq":{seq},"ts":1767225600000}}'
    ).encode()


def publish(topic: str, payload: bytes, *, qos: int, packet_id: int, version: int) -> bytes:
    """Return a PUBLISH."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += b"\0"
    body += payload
    return bytes((0x30 | qos << 1,)) + _varint(len(body)) + body


def connect(client_id: str, version: int) -> bytes:
    """Return a CONNECT with a clean session."""
    body = b"\0\4MQTT" + bytes((version, 2, 0, 0)) + (b"\0" if version == 5 else b"")
    name = client_id.encode()
    body += len(name).to_bytes(2, "big") + name
    return b"\x10" + _varint(len(body)) + body


def _open(load: Load, n: int) -> Peer:
    sock = socket.create_connection((load.host, load.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(connect(f"bench-{os.getpid()}-{n}", load.version))
    head = sock.recv(2)
    answer = sock.recv(head[1]) if len(head) == 2 else b""
    if not answer or head[0] != 0x20 or answer[1]:
        raise SystemExit(f"connection {n} was refused: {(head + answer).hex()}")
    sock.settimeout(0)
    topic = load.topic.format(n=n)
    share = load.count // load.connections + (n < load.count % load.connections)
    packets = [
        publish(topic, pose(n, i), qos=load.qos, packet_id=i + 1, version=load.version)
        for i in range(min(_CYCLE, max(share, 1)))
    ]
    ends, end = [], 0
    for packet in packets:
        end += len(packet)
        ends.append(end)
    last = b""
    if load.qos == 0:
        last = publish(topic, pose(n, share), qos=1, packet_id=1, version=load.version)
    return Peer(sock, memoryview(b"".join(packets)), ends, share, last=last)


def _write(peer: Peer, load: Load) -> bool:
    """Send what the window allows. True if the socket took no more."""
    while True:
        if peer.released:
            sent = peer.sock.send(peer.released)
            del peer.released[:sent]
            if peer.released:
                return True
        size = len(peer.ends)
        window = load.inflight - (peer.queued - peer.confirmed) if load.qos else size
        more = min(window, peer.left, size - peer.position)
        peer.queued += more
        peer.left -= more
        peer.position += more
        until = peer.ends[peer.position - 1] if peer.position else 0
        while peer.offset < until:
            try:
                chunk = peer.data[peer.offset : min(until, peer.offset + _CHUNK)]
                peer.offset += peer.sock.send(chunk)
            except BlockingIOError:
                return True
        again = peer.position == size
        if again:
            peer.position = peer.offset = 0
        if not peer.left and peer.last:
            try:
                peer.last = peer.last[peer.sock.send(peer.last) :]
            except BlockingIOError:
                return True
        if not more and not (again and peer.left):
            return False


def _read(peer: Peer, load: Load) -> None:
    data = peer.rest + peer.sock.recv(_CHUNK)
    if not data:
        raise SystemExit("the server closed a connection")
    whole = len(data) & ~3 if load.qos < 2 else 0
    if whole and data[0] == 0x40 and data[1] == 2:  # nothing but four bytes each: PUBACKs
        peer.confirmed += whole // 4
        peer.rest = data[whole:]
        return
    at = 0
    while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
        if data[at] == 0x50:
            peer.released += b"\x62\2" + data[at + 2 : at + 4]
        elif data[at] in (0x40, 0x70):
            peer.confirmed += 1
        else:
            raise SystemExit(f"unexpected packet 0x{data[at]:02x}: {data[at : at + 40].hex()}")
        at += 2 + data[at + 1]
    peer.rest = data[at:]


def run(load: Load) -> dict[str, float]:
    """Send everything and wait for every acknowledgement; return the figures."""
    if load.cpu is not None:
        os.sched_setaffinity(0, {load.cpu})
    if load.inflight > _CYCLE:
        raise SystemExit(f"--inflight is at most {_CYCLE}")
    peers = [_open(load, n) for n in range(load.connections)]
    selector = selectors.DefaultSelector()
    for peer in peers:
        selector.register(peer.sock, selectors.EVENT_READ, peer)
    goals = {id(peer): peer.left if load.qos else 1 for peer in peers if peer.left or load.qos == 0}
    cpu = time.process_time()
    begun = time.perf_counter()
    for peer in peers:
        if _write(peer, load):
            selector.modify(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
    while goals:
        for key, events in selector.select(30.0) or _stalled(peers):
            peer = key.data
            if events & selectors.EVENT_READ:
                _read(peer, load)
                if peer.confirmed >= goals.get(id(peer), 1 << 62):
                    del goals[id(peer)]
                    selector.unregister(peer.sock)
                    continue
            full = _write(peer, load)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0)
            if wanted != key.events:
                selector.modify(peer.sock, wanted, peer)
    took = time.perf_counter() - begun
    for peer in peers:
        peer.sock.close()
    return {
        "messages": load.count,
        "seconds": round(took, 3),
        "per_s": round(load.count / took),
        "publisher_cpu_s": round(time.process_time() - cpu, 3),
    }


def _stalled(peers: list[Peer]) -> list[tuple[selectors.SelectorKey, int]]:
    done = sum(peer.confirmed for peer in peers)
    raise SystemExit(f"nothing from the server for 30 s; {done} messages were acknowledged")


def main() -> None:
    """Read the command line, print one line of JSON."""
    parser = argparse.ArgumentParser(prog="bench.load_mqtt", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--inflight", type=int, default=1_000)
    parser.add_argument("--qos", type=int, default=1, choices=(0, 1, 2))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--version", type=int, default=4, choices=(4, 5))
    parser.add_argument("--topic", default=Load.topic, help="{n} is the number of the connection")
    parser.add_argument("--cpu", type=int, help="the core to stay on")
    print(json.dumps(run(Load(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
