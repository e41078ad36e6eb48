"""Explanations of many texts: sources, shards of results, engines and the report.

Read first: `run.py`, which has the steps of a run in their order.
"""
