"""Where status goes: the observer that turns what happened into topics, and the sinks it feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from adapters.embedded_redis import embedded_redis
from adapters.mqtt_status import MqttStatus, broker_of
from adapters.redis_status import RedisStatus
from daemon.domain.messages import (
    Alert,
    BarsClosed,
    Command,
    Decided,
    Event,
    FeedNotice,
    FundingPaid,
    OrderFilled,
    Revised,
    Started,
)
from daemon.engine.costs import shown_costs
from daemon.engine.engine import Engine
from daemon.ports import AlertSink, StatusSink
from daemon.runtime.live import Observer
from daemon.settings import Settings, read_secret
from daemon.status.values import (
    covariance_values,
    decision_topics,
    fill_values,
    positions_values,
    status_values,
)
from daemon.wiring.notifying import notifier_of
from daemon.wiring.observing import unfailing
from daemon.wiring.runtime_status import RuntimeStatus, Seat


class Publisher:
    """Observe a shell and show what happens; it can neither fail a run nor delay it."""

    def __init__(
        self,
        sinks: Sequence[StatusSink],
        alerts: Sequence[AlertSink],
        feed: Callable[[], Mapping[str, object]] = dict,
        beside: Sequence[Observer] = (),
    ) -> None:
        self._sinks = sinks
        self._alerts = alerts
        self._feed = feed
        self._beside = beside
        self._shown: tuple[object, ...] = ()  # of what may change with any event
        self._band_health: float | None = None  # of the newest decision

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Publish what one event and its commands changed."""
        for observer in self._beside:
            observer(event, commands, engine)
        if isinstance(event, BarsClosed | FeedNotice | Revised):
            self._publish("feed", self._feed())
        if isinstance(event, OrderFilled):
            self._publish("fill", fill_values(event.fill))
        for command in commands:
            if isinstance(command, Decided):
                target = command.decision.target
                self._band_health = None if target is None else target.health
                for topic, values in decision_topics(engine.universe, command.decision).items():
                    self._publish(topic, values)
            elif isinstance(command, Alert):
                for sink in self._alerts:
                    sink.alert(command)
        state = engine.state
        present = (state.trading, state.reasons_text, state.book.cash)
        moved = isinstance(event, BarsClosed | OrderFilled | FundingPaid | Started)
        decided = any(isinstance(c, Decided) for c in commands)
        if moved or decided or present != self._shown:
            self._shown = present
            self._publish_state(engine)

    def _publish_state(self, engine: Engine) -> None:
        state, book = engine.state, engine.state.book
        equity = book.equity
        weights = book.weights() if equity > 0 else book.quantity * 0.0
        status = status_values(
            now_ms=state.instant_ms,
            trading_state=str(state.trading),
            equity=equity,
            weights=weights,
            ledger=book.ledger,
            next_decision_ms=engine.rules.cadence.decision.next_close(state.instant_ms),
            decisions_n=state.sequence,
            orders_open_n=len(state.orders.open),
            note=state.reasons_text,
            band_health=self._band_health,
        )
        status["net_weight_worst"] = book.net_weight_worst
        if book.beta is not None:
            status["beta_weight_worst"] = book.beta.weight_worst
        if state.covariance is not None:
            status["covariance"] = covariance_values(state.covariance)
        if state.margins:
            status["margin_ratios"] = dict(state.margins)
        if state.strangers:
            status["orders_of_others_n"] = len(state.strangers)
        if costs := shown_costs(state.costs):
            status["costs"] = costs
        self._publish("status", status)
        outside = book.outside.marks
        shown = positions_values(engine.universe, book.ledger, book.marks, equity, outside)
        self._publish("positions", shown)

    def _publish(self, topic: str, values: Mapping[str, object]) -> None:
        publish_to(self._sinks, topic, values)


def publish_to(sinks: Sequence[StatusSink], topic: str, values: Mapping[str, object]) -> None:
    """Hand the newest values of a topic to every sink."""
    for sink in sinks:
        sink.publish(topic, values)


@asynccontextmanager
async def status_sinks(
    settings: Settings,
    meta: Mapping[str, object],
    feed: Callable[[], Mapping[str, object]] = dict,
    seat: Seat | None = None,
) -> AsyncIterator[Publisher]:
    """Connect the configured sinks for as long as the context lasts and yield their publisher.

    feed: gives the state of the market feeds by venue. seat: what `runtime` is told of, if it is.
    """
    named: dict[str, RedisStatus | MqttStatus] = {}
    async with AsyncExitStack() as stack:
        if settings.redis.enabled:
            named["redis"] = await _redis(settings, stack, meta)
        if settings.mqtt.url:
            named["mqtt"] = _mqtt(settings)
        for sink in named.values():
            await stack.enter_async_context(sink.running())
        sinks = list(named.values())
        if seat is None:
            yield Publisher(sinks, sinks, feed)
            return
        beside = await _beside(settings, seat, meta, named, stack)
        yield Publisher(sinks, sinks, feed, beside)


async def _beside(
    settings: Settings,
    seat: Seat,
    meta: Mapping[str, object],
    named: Mapping[str, RedisStatus | MqttStatus],
    stack: AsyncExitStack,
) -> tuple[Observer, ...]:
    """Begin what watches by the clock and what tells people; give their observers."""
    notifier, sinks = notifier_of(settings), list(named.values())
    shown: dict[str, Callable[[], Mapping[str, object]]] = {
        name: sink.courier.shown for name, sink in named.items()
    }

    def alert(raised: Alert, subject: str, over: bool) -> None:
        for sink in sinks:
            sink.alert(raised)
        if notifier is not None:
            notifier.alert(raised, subject, over=over)

    if notifier is not None:
        await stack.enter_async_context(notifier.running())
        shown |= notifier.shown
    runtime = RuntimeStatus(settings, seat, meta, shown, partial(publish_to, sinks), alert)
    await stack.enter_async_context(runtime.running())
    # each by itself: one that breaks ends neither the other nor the status
    watching = [runtime.observe] if notifier is None else [runtime.observe, notifier.observe]
    return tuple(unfailing(one) for one in watching)


async def _redis(
    settings: Settings, stack: AsyncExitStack, meta: Mapping[str, object]
) -> RedisStatus:
    redis = settings.redis
    url = redis.url
    if url == "embedded":
        server = embedded_redis(settings.run.state_folder, binary=redis.binary)
        url = await stack.enter_async_context(server)
    password = redis_password(settings)
    return RedisStatus(
        url,
        namespace=redis.namespace,
        run=settings.run.run_name,
        username=redis.username,
        password=password,
        stream_length_max=redis.stream_length_max,
        meta=meta,
    )


def redis_password(settings: Settings) -> str | None:
    """Read the Redis password from where settings say it is; None without one."""
    redis = settings.redis
    secret = read_secret("redis.password", variable=redis.password_env, file=redis.password_file)
    return secret.reveal() if secret is not None else None


def _mqtt(settings: Settings) -> MqttStatus:
    mqtt = settings.mqtt
    secret = read_secret("mqtt.password", variable=mqtt.password_env, file=mqtt.password_file)
    broker = broker_of(
        mqtt.url,
        username=mqtt.username,
        password=secret.reveal() if secret is not None else None,
        tls_ca_file=mqtt.tls_ca_file,
        tls_certificate_file=mqtt.tls_certificate_file,
        tls_key_file=mqtt.tls_key_file,
    )
    return MqttStatus(broker, namespace=mqtt.namespace, run=settings.run.run_name)
