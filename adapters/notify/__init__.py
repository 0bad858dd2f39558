"""Bring messages to people: a webhook, Telegram, e-mail; each by itself, none waited for."""

from adapters.notify.hooks import Telegram, Webhook
from adapters.notify.mail import Mail, MailServer
from adapters.notify.post import Channel, Post, Undelivered

__all__ = ["Channel", "Mail", "MailServer", "Post", "Telegram", "Undelivered", "Webhook"]
