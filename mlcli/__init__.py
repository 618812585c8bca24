"""mlcli: the classical image-learning methods as single-purpose shell commands, and as functions.

    >>> import mlcli
    >>> mlcli.classify("samples/photos/coffee.jpg", top_k=1).predictions[0].classes[0][0]
    'espresso'

Each command is a function of its name (siamese-train is `siamese_train`, models is `list_models`, docs is `read_docs`).
`load_policy` is the one that no command is made of.
They are imported when they are first used, so that `import mlcli` loads no torch and changes nothing.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    from mlcli.api import BESIDE, load, names

    if name in names() | BESIDE:
        return load(name)
    raise AttributeError(f"module 'mlcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    from mlcli.api import BESIDE, names

    return sorted({*globals(), *names(), *BESIDE})
