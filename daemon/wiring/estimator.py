"""placeholder"""
from contextlib import asynccontextmanager
@asynccontextmanager
async def estimator_of(settings, symbols):
    yield None
