"""What every section of a recipe is made of."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

# Names of models and voters become folders and column values.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Settings(BaseModel):
    """Plain, frozen values; an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python counts true as 1, and YAML reads `yes` as true: nobody who writes `limit: yes` means one question."""
        kinds = _kinds(cls.model_fields[info.field_name].annotation) if info.field_name else set()
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{str(value).lower()} is no number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """All types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))
