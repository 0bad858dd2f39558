"""Where status goes: the observer that turns what happened into topics, and the sinks it feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from adapters.embedded_redis import embedded_redis
from adapters.mqtt_status import Broker, MqttStatus, broker_of
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
from daemon.runtime.live import Observer
from daemon.runtime.log_tap import log_tap
from daemon.settings import Settings, read_secret
from daemon.status.values import (
    covariance_values,
    decision_topics,
    fill_values,
    positions_values,
    status_values,
)
from daemon.wiring.book_topics import BookTopics
from daemon.wiring.instruments import JOURNAL_FILE
from daemon.wiring.notifying import Notifier, notifier_of
from daemon.wiring.observing import unfailing
from daemon.wiring.runtime_status import RuntimeStatus, Seen
from daemon.wiring.shown_by_clock import shown_by_clock
from daemon.wiring.summary import DayTeller
from daemon.wiring.web import PageSeat, forget_address, web_page

Sinks = dict[str, RedisStatus | MqttStatus | WebPage]


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
        self.day: DayTeller | None = None
        self._shown: tuple[object, ...] = ()  # of what may change with any event
        self._band_health: float | None = None  # of the newest decision
        self._topics = BookTopics(self._publish)

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Publish what one event and its commands changed."""
        for observer in self._beside:
            observer(event, commands, engine)
        if self.day is not None:
            self.day(event, commands, engine)
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

    def log(self, values: Mapping[str, object]) -> None:
        """Show an entry of the log."""
        self._publish("log", values)

    def tell_day(self, values: Mapping[str, object], alert: Alert) -> None:
        """Show the summary of a day, to people too."""
        self._publish("daily", values)
        for sink in self._alerts:
            sink.alert(alert)

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
    seen: Seen | None = None,
    on_page: Callable[[str], None] = lambda address: None,
) -> AsyncIterator[Publisher]:
    """Connect the configured sinks for as long as the context lasts and yield their publisher.

    feed: gives the state of the market feeds by venue. seen: what is looked at beside trading;
    without it there is neither page nor `runtime`. on_page: hears the address of the page.
    """
    sinks: Sinks = {}
    notifier = None if seen is None else notifier_of(settings)
    async with AsyncExitStack() as stack:
        if settings.redis.enabled:
            sinks["redis"] = await _redis(settings, stack, meta)
        if settings.mqtt.url:
            sinks["mqtt"] = _mqtt(settings)
        if settings.web.enabled and seen is not None:
            seat = PageSeat(seen.clock.now, seen.speed, on_page)
            told = [*sinks.values(), *(() if notifier is None else (notifier,))]
            sinks["page"] = web_page(settings, meta, told, seat)
            stack.callback(forget_address, settings)
        for sink in sinks.values():
            await stack.enter_async_context(sink.running())
        beside = () if seen is None else await _beside(settings, seen, meta, sinks, notifier, stack)
        publisher = Publisher(list(sinks.values()), list(sinks.values()), feed, beside)
        if sinks:
            stack.enter_context(log_tap(publisher.log, known_secrets(settings)))
        if sinks or notifier is not None:
            journal = settings.run.state_folder / JOURNAL_FILE
            publisher.day = DayTeller(journal, partial(_tell_day, publisher, notifier))
            await stack.enter_async_context(publisher.day.running())
        stack.callback(publisher.close)
        if sinks:
            await stack.enter_async_context(shown_by_clock(settings, publisher.show, feed))
        yield publisher


def _tell_day(
    publisher: Publisher, notifier: Notifier | None, values: Mapping[str, object], alert: Alert
) -> None:
    publisher.tell_day(values, alert)
    if notifier is not None:
        notifier.alert(alert)


async def _beside(
    settings: Settings,
    seen: Seen,
    meta: Mapping[str, object],
    sinks: Sinks,
    notifier: Notifier | None,
    stack: AsyncExitStack,
) -> tuple[Observer, ...]:
    """Begin what watches by the clock and what tells people; give their observers."""
    shown: dict[str, Callable[[], Mapping[str, object]]] = {
        name: sink.courier.shown for name, sink in sinks.items()
    }

    def alert(raised: Alert, subject: str, over: bool) -> None:
        for sink in sinks.values():
            sink.alert(raised)
        if notifier is not None:
            notifier.alert(raised, subject, over=over)

    if notifier is not None:
        await stack.enter_async_context(notifier.running())
        shown |= notifier.shown
    show = partial(publish_to, list(sinks.values()))
    runtime = RuntimeStatus(settings, seen, meta, shown, show, alert)
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


def known_secrets(settings: Settings) -> list[str]:
    """Read every secret that settings name a variable or a file of, for what must never show it.

    Raises ConfigurationError for one that is named and not there.
    """
    found = []
    for section in type(settings).model_fields:
        chosen = getattr(settings, section)
        fields = type(chosen).model_fields
        for name in fields:
            secret, is_named, _ = name.rpartition("_env")
            if is_named and f"{secret}_file" in fields:
                variable, file = getattr(chosen, name), getattr(chosen, f"{secret}_file")
                found.append(read_secret(f"{section}.{secret}", variable=variable, file=file))
    return [secret.reveal() for secret in found if secret is not None]


def redis_password(settings: Settings) -> str | None:
    """Read the Redis password from where settings say it is; None without one."""
    redis = settings.redis
    secret = read_secret("redis.password", variable=redis.password_env, file=redis.password_file)
    return secret.reveal() if secret is not None else None


def redis_login(settings: Settings) -> dict[str, Any]:
    """Give user name and password as the client takes them."""
    return {"username": settings.redis.username, "password": redis_password(settings)}


def _mqtt(settings: Settings) -> MqttStatus:
    broker, namespace = mqtt_broker(settings), settings.mqtt.namespace
    return MqttStatus(broker, namespace=namespace, run=settings.run.run_name)


def mqtt_broker(settings: Settings) -> Broker:
    """Say where the broker of the settings is; raises ConfigurationError."""
    mqtt = settings.mqtt
    secret = read_secret("mqtt.password", variable=mqtt.password_env, file=mqtt.password_file)
    return broker_of(
        mqtt.url,
        username=mqtt.username,
        password=secret.reveal() if secret is not None else None,
        tls_ca_file=mqtt.tls_ca_file,
        tls_certificate_file=mqtt.tls_certificate_file,
        tls_key_file=mqtt.tls_key_file,
    )
