"""Take operators' requests from an MQTT topic and answer them; ask as an operator does.

    {namespace}/{run}/cmd                     requests, QoS 1, never retained
    {namespace}/{run}/cmd/answer[/anything]   answers, QoS 1: the request's own response topic where
                                              it lies here, with its correlation data

MQTT 5, on a connection of its own. QoS 1 may bring a request twice, which its id makes harmless;
QoS 2 would cost two more messages and promise nothing over a lost session. A session begins clean:
what was said while nobody listened is never heard, and a retained request, which would be obeyed at
every start, is refused. The broker is told to bring nothing longer than a request can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from daemon.status.listening import REFUSED_PAUSE_S, Desk, Followers, Listener, Ticket

CORRELATION_BYTES_MAX: Final = 128
TOPIC_CHARS_MAX: Final = 256
ASK_AGAIN_S: Final = 0.5
RETAINED_NEVER: Final = 2  # MQTT 5, 3.8.3.1: do not send what was retained before
VIA: Final = "mqtt"

Connect = Callable[[], AbstractAsyncContextManager[aiomqtt.Client]]
"""Connects by MQTT 5."""
Understood = Callable[[str], dict[str, object] | None]
"""Reads the payload of an answer; None when it is not the one that is waited for."""


class MqttCommands:
    """Listen to one run's commands at one broker."""

    def __init__(
        self, connect: Connect, desk: Desk, *, namespace: str, run: str, server: str
    ) -> None:
        self._connect = connect
        self._desk = desk
        self._topic = f"{namespace}/{run}/cmd"
        self.listener = Listener(self._serve, server=server)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Listen in the background for as long as the context lasts."""
        return self.listener.running()

    async def _serve(self, hears: Callable[[], None]) -> None:
        followers = Followers()
        async with self._connect() as client:
            try:
                await _subscribe(client, self._topic)
                hears()
                async for message in client.messages:
                    refusal = "retained: a request must not be retained" if message.retain else ""
                    ticket = await self._desk.take(message.payload, via=VIA, refusal=refusal)
                    if ticket is None:
                        await asyncio.sleep(REFUSED_PAUSE_S)
                    else:
                        followers.follow(self._answer(client, message, ticket))
            finally:
                await followers.close()

    async def _answer(
        self, client: aiomqtt.Client, message: aiomqtt.Message, ticket: Ticket
    ) -> None:
        payload = await ticket.answer()
        if payload is None:
            return
        asked: Any = message.properties
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        correlation = getattr(asked, "CorrelationData", b"")
        if correlation and len(correlation) <= CORRELATION_BYTES_MAX:
            properties.CorrelationData = correlation
        topic = self._answer_topic(getattr(asked, "ResponseTopic", ""))
        await client.publish(topic, payload, qos=1, properties=properties)

    def _answer_topic(self, wanted: str) -> str:
        """Give where to answer: only below our own topic, or a request could have us write at will.

        The response topic is not signed.
        """
        ours = f"{self._topic}/answer"
        is_ours = wanted.startswith(f"{ours}/") and len(wanted) <= TOPIC_CHARS_MAX
        return wanted if is_ours and not set(wanted) & set("+#\0") else ours


async def ask_over_mqtt(
    connect: Connect,
    payload: str,
    understood: Understood,
    *,
    namespace: str,
    run: str,
    request_id: str,
    wait_s: float,
) -> tuple[dict[str, object] | None, str]:
    """Send a request and wait for its answer; gives (answer, "") or (None, why there is none)."""
    topic = f"{namespace}/{run}/cmd"
    answers = f"{topic}/answer/{request_id}"
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = answers
    properties.CorrelationData = request_id.encode()
    why = f"no answer within {wait_s:g} s"

    async def asked() -> dict[str, object]:
        async with connect() as client:
            await _subscribe(client, answers)
            await client.publish(topic, payload, qos=1, properties=properties)
            async for message in client.messages:
                answer = understood(message.payload.decode("utf-8", "replace"))
                if answer is not None:
                    return answer
        raise aiomqtt.MqttError("the broker ended the connection")

    try:
        async with asyncio.timeout(wait_s):
            while True:  # sent twice it is still one request
                try:
                    return await asked(), ""
                except (aiomqtt.MqttError, OSError) as e:
                    why = f"{type(e).__name__}: {e}"
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        return None, why


async def _subscribe(client: aiomqtt.Client, topic: str) -> None:
    """Subscribe, hearing of the retain flag and of nothing that was retained before."""
    options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=RETAINED_NEVER)
    codes: Any = await client.subscribe(topic, options=options)
    if any(code.is_failure for code in codes):
        raise aiomqtt.MqttError(f"the broker refused the subscription to {topic}")
