"""Options of loading a model, which transformers takes; each is checked before it reads a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from attnflow.checks import check_switch
from attnflow.errors import InputError, needs, shown

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
LONGEST_NAME = 255  # of a file, on every system
PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class LoadOptions:
    """Options of `from_pretrained`, with the meaning that transformers gives them.

    Attributes:
        device: The device of the model; the CPU when None. Not with `device_map`.
        dtype: Type of the weights: a name of `DTYPES`, a torch type, or "auto" for the
            checkpoint's. None is float32, and the checkpoint's for quantised weights.
        device_map: "auto" or another of `PLACEMENTS`, a device, or a device for each part; layers
            may lie on several, in memory or on "disk".
        revision: Branch, tag or commit on the hub.
        token: The hub's token, or True for the one that is stored.
        subfolder: Folder of the model inside the name.
        quantization_config: Configuration of a backend that quantises while it loads.
        gguf_file: Name of a GGUF file, whose weights become those of `dtype`.
        attn_implementation: Back end of attention outside of explanations.
        trust_remote_code: Run code that comes with the model. Off: it may do anything.
    """

    device: str | torch.device | None = None
    dtype: str | torch.dtype | None = None
    device_map: str | torch.device | Mapping[str, Any] | None = None
    revision: str | None = None
    token: str | bool | None = None
    subfolder: str | None = None
    quantization_config: Any = None
    gguf_file: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_switch("trust_remote_code", self.trust_remote_code)
        for name in ("revision", "subfolder", "gguf_file", "attn_implementation"):
            _check_text(name, getattr(self, name))
        if not isinstance(self.token, str | bool | None):
            # Not shown: it is a secret.
            raise InputError(f"token must be a string or True, got {type(self.token).__name__}.")
        if self.device_map is not None and self.device is not None:
            raise InputError("give device= or device_map=, which both place the model, not both.")
        config = self.quantization_config
        if not (config is None or isinstance(config, Mapping) or hasattr(config, "quant_method")):
            raise InputError(
                "quantization_config must be a config of transformers such as "
                f"BitsAndBytesConfig(load_in_4bit=True), got {shown(config)}."
            )
        if self.quantization_config is not None and self.gguf_file is not None:
            raise InputError("weights of a GGUF file cannot be quantised again: give one of both.")
        _ = self.torch_dtype
        self._check_device_map()

    @property
    def torch_dtype(self) -> torch.dtype | str | None:
        """The type of the weights: torch's, "auto", or None where none was asked for.

        Raises:
            InputError: There is no such type.
        """
        dtype = self.dtype
        if isinstance(dtype, str):
            dtype = DTYPES.get(dtype.removeprefix("torch."), dtype)
        is_known = isinstance(dtype, torch.dtype) and dtype in DTYPES.values()
        if is_known or dtype is None or (isinstance(dtype, str) and dtype == "auto"):
            return dtype
        raise InputError(f"dtype must be one of {', '.join(DTYPES)} or auto, got {shown(dtype)}.")

    @property
    def target(self) -> torch.device:
        """The device of the model, where no `device_map` places it.

        Raises:
            InputError: This machine does not have it, or it does not have the type.
        """
        device = checked_device(self.device)
        if isinstance(self.torch_dtype, torch.dtype):
            _check_multiplies(device, self.torch_dtype)
        return device

    @property
    def given(self) -> list[str]:
        """Names of the options that say where files are and how they are read."""
        names = [
            *("revision", "subfolder", "quantization_config", "gguf_file", "device_map"),
            *("token", "attn_implementation"),
        ]
        code = ["trust_remote_code"] if self.trust_remote_code else []
        return [name for name in names if getattr(self, name) is not None] + code

    @property
    def of_files(self) -> dict[str, Any]:
        """Keywords that find the files of config, weights and tokenizer."""
        found = {"revision": self.revision, "token": self.token, "gguf_file": self.gguf_file}
        found |= {"subfolder": self.subfolder}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def of_code(self) -> dict[str, Any]:
        """Keywords that say whether code comes with the model.

        Left open, transformers would ask on standard input.
        """
        return {"trust_remote_code": self.trust_remote_code}

    def of_weights(self, *, quantised: bool) -> dict[str, Any]:
        """Return keywords of the weights.

        Args:
            quantised: The checkpoint's own weights are.
        """
        quantised |= self.quantization_config is not None
        asked = self.torch_dtype
        default: Any = "auto" if quantised else torch.float32
        found: dict[str, Any] = {"dtype": default if asked is None else asked}
        if self.quantization_config is not None:
            found["quantization_config"] = self.quantization_config
        if self.attn_implementation is not None:
            found["attn_implementation"] = self.attn_implementation
        if self.device_map is not None:
            found["device_map"] = self.device_map
        elif quantised:  # such weights cannot be moved afterwards
            found["device_map"] = {"": self.target}
        if "device_map" in found:
            with needs("a device_map and quantised weights need accelerate", "backends"):
                import accelerate  # noqa: F401
        return found

    def _check_device_map(self) -> None:
        given = self.device_map
        if given is None or (isinstance(given, str) and given in PLACEMENTS):
            return
        if isinstance(given, torch.device) or (isinstance(given, str) and _is_device(given)):
            checked_device(given)
        elif isinstance(given, Mapping) and all(isinstance(part, str) for part in given):
            for device in given.values():
                if not (isinstance(device, str) and device == "disk"):
                    _check_place(device)
        else:
            raise InputError(
                f"device_map must be one of {', '.join(PLACEMENTS)}, a device, or a device for "
                f"each part of the model, got {shown(given)}."
            )


def _is_device(name: str) -> bool:
    """Return whether a name is one of a device, here or elsewhere."""
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def _check_text(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str) or "\0" in value or len(value) > LONGEST_NAME:
        raise InputError(
            f"{name} must be a string of at most {LONGEST_NAME} characters, got {shown(value)}."
        )


def _check_place(device: Any) -> None:
    """Check a device of a `device_map`, in which a number is that of a GPU."""
    if isinstance(device, int) and not isinstance(device, bool) and 0 <= device < 10**6:
        device = f"cuda:{device}"
    if not isinstance(device, str | torch.device):
        raise InputError(f"device_map must name devices, 'disk' or GPUs, got {shown(device)}.")
    checked_device(device)


def checked_device(device: str | torch.device | None) -> torch.device:
    """Return the device; the CPU when None.

    Raises:
        InputError: This machine does not have it.
    """
    try:
        target = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"device must be a name such as 'cpu', 'cuda', 'cuda:1' or 'mps', got {shown(device)}."
        ) from error
    if target.type == "cpu":
        return target
    module: Any = getattr(torch, target.type, None)
    count = int(module.device_count()) if hasattr(module, "device_count") else 0
    if (target.index or 0) >= count:
        raise InputError(
            f"device {shown(device)} is not there: this machine has {count} devices of type "
            f"{target.type!r}. Use 'cpu', or a torch build that supports the device."
        )
    return target


def _check_multiplies(device: torch.device, dtype: torch.dtype) -> None:
    try:
        one = torch.ones(1, 1, dtype=dtype, device=device)
        one @ one
    except (RuntimeError, TypeError) as error:
        name = str(dtype).removeprefix("torch.")
        raise InputError(f"{device} cannot compute in {name}: choose another dtype.") from error
