"""Where status goes: the observer that turns what happened into topics, and the sinks it feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from adapters.embedded_redis import embedded_redis
from adapters.mqtt_status import MqttStatus, broker_of
from adapters.redis_status import RedisStatus
from adapters.web.beside import WebPage
from daemon.domain.messages import (
    Alert,
    BarsClosed,
    Command,
    Decided,
    Event,
    FeedNotice,
    FundingPaid,
    OrderAccepted,
    OrderFilled,
    OrderUncertain,
    Revised,
    Started,
)
from daemon.engine.costs import shown_costs
from daemon.engine.engine import Engine
from daemon.ports import AlertSink, StatusSink
from daemon.settings import Settings, read_secret
from daemon.status.values import (
    covariance_values,
    decision_topics,
    fill_values,
    positions_values,
    status_values,
)
from daemon.wiring.book_topics import BookTopics
from daemon.wiring.shown_by_clock import shown_by_clock
from daemon.wiring.web import PageSeat, forget_address, page_log, web_page


class Publisher:
    """Observe a shell and show what happens; it can neither fail a run nor delay it."""

    def __init__(
        self,
        sinks: Sequence[StatusSink],
        alerts: Sequence[AlertSink],
        feed: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._sinks = sinks
        self._alerts = alerts
        self._feed = feed
        self._shown: tuple[object, ...] = ()  # of what may change with any event
        self._band_health: float | None = None  # of the newest decision
        self._topics = BookTopics(self._publish)

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Publish what one event and its commands changed."""
        if isinstance(event, BarsClosed | FeedNotice | Revised):
            self._publish("feed", self._feed())
        if isinstance(event, OrderFilled):
            self._publish("fill", fill_values(event.fill))
        if isinstance(event, OrderAccepted | OrderUncertain | OrderFilled):
            self._topics.moved(engine)
        if isinstance(event, Started) and not event.warming:
            self._topics.started(engine)
        for command in commands:
            if isinstance(command, Decided):
                target = command.decision.target
                self._band_health = None if target is None else target.health
                for topic, values in decision_topics(engine.universe, command.decision).items():
                    self._publish(topic, values)
                self._topics.decided(engine, command.decision)
            elif isinstance(command, Alert):
                for sink in self._alerts:
                    sink.alert(command)
        self._topics.look(engine)
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
        self._topics.risk(engine)

    def close(self) -> None:
        """Show what still waits: the run is over."""
        self._topics.close()

    def show(self, topic: str, values: Mapping[str, object]) -> None:
        """Show the newest values of a topic that no event brings."""
        self._publish(topic, values)

    def _publish(self, topic: str, values: Mapping[str, object]) -> None:
        for sink in self._sinks:
            sink.publish(topic, values)


@asynccontextmanager
async def status_sinks(
    settings: Settings,
    meta: Mapping[str, object],
    feed: Callable[[], Mapping[str, object]] = dict,
    page_seat: PageSeat | None = None,
) -> AsyncIterator[Publisher]:
    """Connect the configured sinks for as long as the context lasts and yield their publisher.

    feed: gives the state of the market feeds by venue. page_seat: where the status page is shown
    from; without it none is.
    """
    sinks: list[RedisStatus | MqttStatus | WebPage] = []
    async with AsyncExitStack() as stack:
        if settings.redis.enabled:
            sinks.append(await _redis(settings, stack, meta))
        if settings.mqtt.url:
            sinks.append(_mqtt(settings))
        if settings.web.enabled and page_seat is not None:
            page = web_page(settings, meta, sinks, page_seat)
            stack.callback(forget_address, settings)
            stack.enter_context(page_log(page))
            sinks.append(page)
        for sink in sinks:
            await stack.enter_async_context(sink.running())
        publisher = Publisher(sinks, sinks, feed)
        stack.callback(publisher.close)
        if sinks:
            await stack.enter_async_context(shown_by_clock(settings, publisher.show, feed))
        yield publisher


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
