"""The base class of every section of a recipe, and the type of names."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

# Names of models and voters become names of folders and values of columns.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Settings(BaseModel):
    """The base class of a recipe's sections: plain, frozen values, where an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a boolean where a number belongs."""
        # Python counts true as 1, and YAML reads `yes` as true, but `limit: yes` does not mean one question.
        kinds = _kinds(cls.model_fields[info.field_name].annotation) if info.field_name else set()
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{str(value).lower()} is no number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Return all types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))
