"""Leave out what a page would load and not use."""


def trim(app, pagename, templatename, context, doctree):
    """Drop the book theme's script (site.js has the part that we need), and what cells, tabs or cards would need."""
    unused = ["sphinx-book-theme.js"]
    if context.get("page_source_suffix") != ".ipynb":
        unused.append("mystnb")
    if 'class="sd-' not in context.get("body", ""):
        unused += ["sphinx-design", "design-tabs"]
    for assets in ("script_files", "css_files"):
        context[assets] = [a for a in context[assets] if not any(name in (a.filename or "") for name in unused)]


def setup(app):
    app.connect("html-page-context", trim, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
