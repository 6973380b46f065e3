"""A real Kafka on the load generator's core, and who else fills it: the peers of the stream."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, TopicPartition

from bench.machine import SERVER_CORE, end, start
from bench.payloads import PREFIX
from bench.report import CheckFailed
from bench.servers import START_S, Server, Unmeasured, mosquitto
from tests.services.kafka import Kafka

PARTITIONS: Final = 6
FILL_S: Final = 120.0


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Kafka]:
    """Run a Kafka on this process's core. Raises Unmeasured where it cannot be had."""
    try:
        with Kafka(folder, jvm=("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC")) as kafka:
            yield kafka
    except pytest.skip.Exception as exc:
        raise Unmeasured(str(exc)) from exc


def held(kafka: Kafka, topic: str) -> int:
    """Return how many records ``topic`` was given."""
    consumer = Consumer({"bootstrap.servers": kafka.servers, "group.id": "bench"})
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in range(PARTITIONS)
        )
    finally:
        consumer.close()


def until_held(kafka: Kafka, topic: str, count: int) -> float:
    """Return when (monotonic) ``topic`` had ``count`` records.

    Raises:
        CheckFailed: it did not come to that.
    """
    deadline = time.monotonic() + FILL_S
    while (now := held(kafka, topic)) < count:
        if time.monotonic() > deadline:
            raise CheckFailed(f"{topic}: {now} of {count} records after {FILL_S:.0f} s")
        time.sleep(0.02)
    return time.monotonic()


@contextlib.contextmanager
def mq_bridge(folder: Path, kafka: Kafka, topic: str) -> Iterator[tuple[Server, Server]]:
    """Run Mosquitto and mq-bridge; yield both together, and mq-bridge alone."""
    with mosquitto(folder, persistence=False) as source:
        arguments = ["--mqtt", str(source.mqtt), "--kafka", kafka.servers, "--topic", topic]
        command = [sys.executable, "-m", "bench.peer_mqbridge", *arguments]
        process = start(command, core=SERVER_CORE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise Unmeasured("mq-bridge did not start (is its wheel for this platform?)")
            alone = Server("mq-bridge", [process.pid], source.mqtt)
            yield Server("mosquitto, mq-bridge", [*source.pids, process.pid], source.mqtt), alone
        finally:
            end(process)


@contextlib.contextmanager
def telegraf(folder: Path, kafka: Kafka, topic: str) -> Iterator[tuple[Server, Server]]:
    """Run Mosquitto and Telegraf (JSON parser, acks=all); yield both together, and it alone."""
    found = shutil.which("telegraf")
    if found is None:
        raise Unmeasured("telegraf is not on PATH")
    with mosquitto(folder, persistence=False) as source:
        template = (Path(__file__).parent / "telegraf.conf").read_text(encoding="utf-8")
        settings = folder / "telegraf.conf"
        settings.write_text(
            template.format(
                mqtt=f"tcp://127.0.0.1:{source.mqtt}",
                topics=f"{PREFIX}/+/pose",
                kafka=kafka.servers,
                topic=topic,
            ),
            encoding="utf-8",
        )
        with (folder / "telegraf.log").open("wb") as log:
            process = start([found, "--config", str(settings)], core=SERVER_CORE, stderr=log)
        try:
            _until_said(process, folder / "telegraf.log", "Connected")
            alone = Server("telegraf", [process.pid], source.mqtt)
            yield Server("mosquitto, telegraf", [*source.pids, process.pid], source.mqtt), alone
        finally:
            end(process)


def _until_said(process: "subprocess.Popen[str]", path: Path, text: str) -> None:
    deadline = time.monotonic() + START_S
    while text not in path.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unmeasured(f"telegraf did not start: {path.read_text(errors='replace')[-500:]}")
        time.sleep(0.05)
