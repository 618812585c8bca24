"""The commands that write into a folder or a file, over a folder `d` of `class_folders`; -o is yet to be added."""

TRAINING = {
    "train": ["d"],
    "finetune": ["d"],
    "pretext": ["d"],
    "siamese-train": ["d"],
    "gan": ["d"],
    "pix2pix": ["d"],
    "cyclegan": ["d", "d"],
    "adapt": ["--method", "adda", "d", "d"],
}
FOLDERS = {
    "pairs": ["d", "--make", "edges"],
    "stylize": ["d", "--style", "d/blue/00.png"],
    "atlas": ["--images", "d"],
    "patches": ["d"],
    "equivariance": ["d"],
    "render": ["digits", "-n", "4"],
}
FILES = {
    "neighbors": ["d/blue/00.png", "--among", "d"],
    "maximize": ["logit:cat"],
    "filters": [],
    "analogy": ["d/blue/00.png", "d/blue/00.png", "d/blue/00.png"],
}
