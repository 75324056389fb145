"""One module per topic; each claim has one experiment, registered by :func:`lab.evidence.experiment`."""
