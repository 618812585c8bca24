"""Cut the sample photographs into square tiles, for commands that want many images.

python samples/tiles.py FOLDER [SIDE]
"""

import sys
from pathlib import Path

from PIL import Image

folder, side = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 96
folder.mkdir(parents=True, exist_ok=True)
for path in sorted((Path(__file__).parent / "photos").glob("*.jpg")):
    photo = Image.open(path)
    for top in range(0, photo.height - side + 1, side):
        for left in range(0, photo.width - side + 1, side):
            tile = photo.crop((left, top, left + side, top + side))
            tile.save(folder / f"{path.stem}_{left:03d}_{top:03d}.png")
