"""Adaptive allocation of users to variants: posteriors, Thompson sampling, sticky users, honest statistics.

Start with `parse_toml` and `Bandit`; the steps from reward to allocation are in `bandit.engine`.
"""

from bandit.allocation import Allocation
from bandit.bandit import Bandit
from bandit.dump import dump, load
from bandit.epochs import Assignment
from bandit.errors import (
    BanditError,
    ConflictingReward,
    InvalidExperiment,
    InvalidId,
    InvalidInput,
    InvalidReward,
    NoAssignment,
    Problem,
    UnknownVariant,
    WrongState,
)
from bandit.experiment import Experiment, parse, parse_json, parse_toml
from bandit.ledger import Ledger
from bandit.report import Report, markdown
from bandit.rewards import Receipt

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "Assignment",
    "Bandit",
    "BanditError",
    "ConflictingReward",
    "Experiment",
    "InvalidExperiment",
    "InvalidId",
    "InvalidInput",
    "InvalidReward",
    "Ledger",
    "NoAssignment",
    "Problem",
    "Receipt",
    "Report",
    "UnknownVariant",
    "WrongState",
    "dump",
    "load",
    "markdown",
    "parse",
    "parse_json",
    "parse_toml",
]
