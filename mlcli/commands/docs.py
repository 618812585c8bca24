"""`mlcli docs`"""

from mlcli.api.call import Call
from mlcli.api.read_docs import ReadDocsConfig, read_docs
from mlcli.commands._derived import command
from mlcli.commands._report import markdown, out, table


@command(ReadDocsConfig)
def run(call: Call[ReadDocsConfig]) -> None:
    """Show the page of a command, or a guide.

    Papers, examples, options, what is written, deviations from the papers, measured results and limits. Without an
    argument, all pages are listed with their first sentences. On a terminal pages are formatted; in a pipe or a file
    they are Markdown.
    """
    pages = call.run(read_docs).pages
    if call.config.page is None:
        rows = [(page.name, "guide" if page.guide else "command", page.summary) for page in pages]
        out(table(("page", "kind", "summary"), rows))
    else:
        out(markdown(pages[0].text))
