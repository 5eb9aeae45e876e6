"""Logs of experiments that ran elsewhere: read strictly, turned into a history, reported like one of the service."""
