"""voicecommand: training recipes for voice-command models on the Hugging Face stack."""

from __future__ import annotations

import sys
from typing import Any

__version__ = "0.1.0"


def load(directory: Any) -> Any:
    """Open a saved run (`runs/...`) or its `model` folder; see `voicecommand.tasks.saved.CommandModel`."""
    from voicecommand.tasks.saved import load as load_model

    return load_model(directory)


class _RegisterModels:
    """Registers our networks with transformers' Auto classes as soon as these are imported, by whomever.

    An import finder that looks at one module: `import voicecommand` itself stays free of torch and transformers.
    """

    AUTO_CLASSES = "transformers.models.auto.modeling_auto"

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.AUTO_CLASSES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                import voicecommand.models  # noqa: F401

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if _RegisterModels.AUTO_CLASSES in sys.modules:
    import voicecommand.models  # noqa: F401
else:
    sys.meta_path.insert(0, _RegisterModels())
