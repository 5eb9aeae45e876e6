"""What an experiment needs before it starts: users, days, and what can be said after them.

In this order: `effects` (from where to where), `fixed_time`, `goal_sizes` and `any_time_sizes` (users that the goal
needs), `expectations`, `certificates` and `guardrail_sizes` (users that the guardrails need), `floors`, `traffic`
(days), `config_changes`.
"""

from bandit.planning.any_time_sizes import any_time
from bandit.planning.config_changes import ConfigChange, config_changes
from bandit.planning.effects import Effect, effect_of
from bandit.planning.expectations import Expectations
from bandit.planning.fixed_time import Plan, SampleSize, plan, total_users, two_sided_shift
from bandit.planning.floors import FloorUsers, users_at_floors
from bandit.planning.goal_sizes import not_worse, one_look, shares_of, smallest_mde
from bandit.planning.guardrail_sizes import Certification, certifications
from bandit.planning.traffic import Schedule, Traffic, ramp_days, traffic_of

__all__ = [
    "Certification",
    "ConfigChange",
    "Effect",
    "Expectations",
    "FloorUsers",
    "Plan",
    "SampleSize",
    "Schedule",
    "Traffic",
    "any_time",
    "certifications",
    "config_changes",
    "effect_of",
    "not_worse",
    "one_look",
    "plan",
    "ramp_days",
    "shares_of",
    "smallest_mde",
    "total_users",
    "traffic_of",
    "two_sided_shift",
    "users_at_floors",
]
