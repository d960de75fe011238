"""`beamslot export grc` and `beamslot import`: flowgraphs to GNU Radio Companion and back."""

import argparse
import sys
from pathlib import Path

from beamslot.cli import options

HOW = """
To see it: GRC_BLOCKS_PATH={folder} gnuradio-companion {graph}"""


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    export = options.add_verb(
        verbs, "export", _export, "write a flowgraph for another program", "beamslot export grc flowgraphs/hello.yml"
    )
    export.add_argument("format", choices=["grc"], help="grc: for GNU Radio Companion, blocks and graph")
    export.add_argument("graph", nargs="?", metavar="GRAPH", help="flowgraph file (YAML); without it, blocks alone")
    export.add_argument(
        "-o", "--output", type=Path, default=Path("grc"), metavar="DIR", help="folder to write to (grc)"
    )
    options.add_blocks(export)
    options.add_json(export, "print the files as JSON")
    bring = options.add_verb(
        verbs, "import", _import, "read a flowgraph of GNU Radio Companion made of our blocks", "beamslot import my.grc"
    )
    bring.add_argument("graph", metavar="FILE", help=".grc file")
    bring.add_argument("-o", "--output", type=Path, metavar="FILE", help="flowgraph file to write; else it is printed")
    options.add_blocks(bring)


def _export(arguments: argparse.Namespace) -> int:
    from beamslot import catalogue
    from beamslot.errors import FlowgraphError
    from beamslot.flowgraph import grc

    own = catalogue.collect(arguments.blocks)
    files = {f"{grc.RUN}.block.yml": grc.run_file()}
    left: list[str] = []
    for block_id in catalogue.ids(own):
        try:
            files[f"{grc.PREFIX}{block_id}.block.yml"] = grc.block_file(block_id, catalogue.find(block_id, own))
        except FlowgraphError as error:  # what it needs is not installed
            left.append(str(error))
    name = ""
    if arguments.graph:
        name = f"{Path(arguments.graph).stem}.grc"
        files[name] = grc.to_grc(options.source(arguments.graph))
    with options.writing(arguments.output):
        arguments.output.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (arguments.output / file).write_text(text, encoding="utf-8")
    if arguments.json:
        options.print_json({"folder": str(arguments.output), "files": sorted(files), "left_out": left})
        return 0
    for text in left:
        print(f"left out: {text}", file=sys.stderr)
    print(f"wrote {len(files)} files to {arguments.output}")
    print(HOW.format(folder=arguments.output, graph=arguments.output / name if name else ""))
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from beamslot import catalogue
    from beamslot.flowgraph import grc, load

    own = catalogue.collect(arguments.blocks)
    document = grc.from_grc(Path(arguments.graph), own)
    load(document, blocks=own)  # all that is wrong with it as a flowgraph is said now
    text = grc.dumped(document)
    if arguments.output is None:
        print(text, end="")
        return 0
    with options.writing(arguments.output):
        arguments.output.write_text(text, encoding="utf-8")
    print(f"wrote {arguments.output}")
    return 0
