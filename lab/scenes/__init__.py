"""Scenes: scripts that fork; each is run by :func:`lab.process.play` in an interpreter of its own."""
