"""The site: the repository's root is Sphinx's source directory, so addresses mirror the repository."""

import hashlib
import os
import sys
from pathlib import Path

from jupyter_cache import get_cache

ROOT = Path(__file__).parent.resolve()
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]
# A notebook's kernel is a process of its own, and imports recipes and lab too.
os.environ["PYTHONPATH"] = str(ROOT)


def digest() -> str:
    """Name all that a notebook's outputs rest on: jupyter-cache looks at nothing but the cells."""
    files = [ROOT / "requirements.lock", *ROOT.glob("recipes/**/*"), *ROOT.glob("lab/**/*")]
    total = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file() and file.suffix != ".pyc"):
        total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


project = "Forks, Threads and Sessions"
language = "en"
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", "theme"]
if (ROOT / "docs" / "_ext" / "claims.py").exists():
    extensions.append("claims")

root_doc = "index"
include_patterns = ["index.md", "docs/**", "notebooks/**"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "docs/_*"]
templates_path = ["docs/_templates"]

# No dollarmath: a stray dollar sign would have every page fetch MathJax from elsewhere.
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "_build" / ".jupyter_cache" / digest())
# A failing cell is a warning with its traceback, and -W makes it fatal: an exception would end the build, and hide it.
nb_execution_raise_on_error = False
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
# Sphinx's workers would race to create the cache, and they are forked: no connection of ours may be open by then.
cache = get_cache(nb_execution_cache_path)
cache.list_cache_records()
cache.db.dispose()
del cache

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "docs/_static/favicon.svg"
html_static_path = ["docs/_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_sidebars = {"**": ["sidebar.html"]}
html_use_index = False
# As the language of the whole site, en_GB would cost every page a script of translations.
html_context = {"language": "en-GB"}
html_theme_options = {
    # An unset navbar_persistent means a top bar with a second search box and a second, hidden menu button,
    # and the theme's script then listens to that one: the visible button does nothing.
    "navbar_persistent": [],
    # The right-hand column belongs to the evidence; the contents of the page stand in the sidebar.
    "secondary_sidebar_items": [],
    "back_to_top_button": False,
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": "Prose and figures CC BY 4.0, code 0BSD",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
