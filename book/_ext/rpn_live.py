"""The network in the page: `{rpn-live}` puts it there, the build makes its files.

Its scripts and weights come from the library when the book is built: two files under
`_static/live`. The page itself carries the first picture; the network, 1.7 MB, is
loaded at the reader's click.
"""

from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util.osutil import relative_uri

from rpn_lib.data.scenes import unseen_scenes
from rpn_lib.figures import live
from rpn_lib.models import trained_rpn


@cache
def pictures():
    """What the page offers, as `data:` addresses; drawn once in a build."""
    return [live.picture_address(image) for image in unseen_scenes()]


class Live(Directive):
    """The element; its content is a note that is shown beside photographs, in HTML."""

    has_content = True

    def run(self):
        env = self.state.document.settings.env
        # Relative, so that the built book can be opened from a folder.
        page = env.app.builder.get_target_uri(env.docname)
        static = relative_uri(page, "_static/live/")
        note = " ".join(self.content)
        html = live.element(pictures()[0], f"{static}network.js", note)
        script = f'<script defer src="{static}live.js"></script>'
        return [nodes.raw("", f"{html}\n{script}", format="html")]


def write_scripts(app, exception):
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_static" / "live"
        folder.mkdir(parents=True, exist_ok=True)
        network = live.network_script(trained_rpn(), pictures())
        (folder / "network.js").write_text(network, encoding="utf-8")
        (folder / "live.js").write_text(live.page_script(), encoding="utf-8")


def setup(app):
    app.add_directive("rpn-live", Live)
    app.connect("build-finished", write_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
