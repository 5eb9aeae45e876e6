"""Adaptive allocation of users to variants: posteriors, Thompson sampling, sticky users, honest statistics.

Start with `parse_toml` and `Bandit`; the steps from reward to allocation are in `bandit.engine`. For sums that were
made elsewhere there is `build_report` of a `History`.
"""

from bandit.allocation import Allocation
from bandit.bandit import Bandit
from bandit.best_arm import expected_loss, probability_best
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
from bandit.history import History
from bandit.ledger import Ledger
from bandit.posteriors import BetaPosterior, StudentPosterior
from bandit.report import Report, build_report, markdown
from bandit.rewards import Receipt

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "Assignment",
    "Bandit",
    "BanditError",
    "BetaPosterior",
    "ConflictingReward",
    "Experiment",
    "History",
    "InvalidExperiment",
    "InvalidId",
    "InvalidInput",
    "InvalidReward",
    "Ledger",
    "NoAssignment",
    "Problem",
    "Receipt",
    "Report",
    "StudentPosterior",
    "UnknownVariant",
    "WrongState",
    "build_report",
    "expected_loss",
    "markdown",
    "parse",
    "parse_json",
    "parse_toml",
    "probability_best",
]
