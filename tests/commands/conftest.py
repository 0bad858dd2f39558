"""Let the workers of campaigns start warm."""

from tests.warm_workers import workers_start_warm as workers_start_warm
