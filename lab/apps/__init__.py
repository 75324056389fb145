"""WSGI applications that the experiments run under real servers; their settings come as JSON in ``LAB_APP``."""
