"""Classes of transformers by name, none of them imported before it is asked for."""

from typing import Any

from ovmer.baselines.errors import PrerequisiteError


def class_named(name: str) -> type[Any]:
    """The class of transformers called `name`, which must be able to generate text.

    Raises PrerequisiteError where transformers has no such class.
    """
    import transformers

    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and hasattr(found, "generate") and hasattr(found, "forward")):
        raise PrerequisiteError(
            f"baseline.architecture is {name!r}, which is no generating model of transformers "
            f"{transformers.__version__}; take the name from the checkpoint's config.json"
        )
    return found
