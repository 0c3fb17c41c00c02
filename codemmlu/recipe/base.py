"""What every section of a recipe is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

# Names of models and voters become folders and column values.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Settings(BaseModel):
    """Plain, frozen values; an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
