"""The offline simulator: the engine of `bandit` against declared, and against recorded, worlds.

No step from reward to allocation is written here; `runner` calls those of `bandit.engine`.
"""
