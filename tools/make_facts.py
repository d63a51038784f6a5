"""Write the sums by which a network's published weights are recognised.

Run it on the published file when a network is added:

    python tools/make_facts.py resnet18 resnet18-f37072fd.pth
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from imgtofmri.backbones.architectures import ARCHITECTURES, fold_weights, sums_of
from imgtofmri.backbones.weights import read_tensors

OUT = Path(__file__).parent.parent / "src" / "imgtofmri" / "backbones" / "facts"
WHAT = (
    "Sum, sum of magnitudes and sum of squares of each tensor of the published weights, batch "
    "normalisation folded into the convolutions."
)


def main() -> None:
    """Write one network's facts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=list(ARCHITECTURES))
    parser.add_argument("weights", type=Path, help="the published file")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    arguments = parser.parse_args()
    network = ARCHITECTURES[arguments.network]
    folded = fold_weights(network, read_tensors(arguments.weights), str(arguments.weights))
    rows = {
        name: [float(f"{value:.7g}") for value in sums_of(tensor)]
        for name, tensor in sorted(folded.items())
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    path = arguments.out / f"{network.id}.json"
    path.write_text(f'{{"what": {json.dumps(WHAT)},\n"tensors": {{\n{lines}\n}}}}\n', "utf-8")
    print(f"{path}: {len(rows)} tensors")


if __name__ == "__main__":
    main()
