"""The lab: real servers, real drivers, experiments, evidence.

Data flows one way: a server is started, an experiment puts load on it, outcomes are counted, a verdict is reached, a
page shows it. Nothing here knows of pytest, Sphinx or Jupyter; they all use it.
"""
