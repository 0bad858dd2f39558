"""Campaigns that run the whole machine many times, to judge it and what it is fed with."""
