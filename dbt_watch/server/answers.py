"""What the API takes and answers, as its OpenAPI description shows it."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from dbt_watch.server.dbt_commands import MAX_WORD, MAX_WORDS
from dbt_watch.server.files import ARTIFACTS
from dbt_watch.server.invocations.records import Invocation, InvocationState
from dbt_watch.server.masking import shown_command

TASK_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:+=@~-]{0,249}$"

TaskId = Annotated[str, Path(pattern=TASK_ID, description="The task_id that the invocation was posted with.")]
ArtifactName = Annotated[str, Path(json_schema_extra={"enum": list(ARTIFACTS)})]


class InvocationRequest(BaseModel):
    """An invocation of dbt that is to run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: Annotated[
        list[Annotated[str, Field(max_length=MAX_WORD)]], Field(min_length=1, max_length=MAX_WORDS)
    ] = Field(
        description="dbt's arguments as a list of words; options before the sub-command are allowed",
        examples=[["build", "--select", "tag:nightly"]],
    )
    task_id: Annotated[str, Field(pattern=TASK_ID)] | None = Field(
        default=None,
        description="Chosen by the client, so that it can safely repeat a request. If it is left out, the server creates one.",
    )
    project_dir: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None,
        description="The name of a project, or its directory. Not needed if the token allows only one.",
    )
    callback_url: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None,
        description='Receives a POST of `{"task_id", "status"}` at the end, if the settings of the server allow its host.',
    )


class Accepted(BaseModel):
    """An invocation that waits, or that was posted before and may have gone on since."""

    task_id: str
    log_path: str = Field(
        description="Where the log is on the server; `GET /invocations/{task_id}/log` reads it."
    )
    state: InvocationState


class InvocationAnswer(BaseModel):
    """What is known of an invocation; times are seconds since 1970."""

    task_id: str
    state: InvocationState
    exc_type: str | None = Field(default=None, description="Why it did not succeed, in one word.")
    exc_message: str | None = None
    project: str | None = None
    target: str | None = None
    command: list[str] | None = Field(default=None, description="With secrets masked.")
    principal: str | None = Field(default=None, description="Whose token it was posted with.")
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = Field(default=None, description="dbt's exit code; negative for a signal.")
    abort_requested: bool | None = None
    log_path: str | None = None

    @classmethod
    def of(cls, invocation: Invocation, log_path: str) -> "InvocationAnswer":
        """Return what is shown of an invocation."""
        return cls(
            task_id=invocation.task_id,
            state=invocation.state,
            exc_type=invocation.exc_type,
            exc_message=invocation.exc_message,
            project=invocation.project,
            target=invocation.target,
            command=shown_command(invocation.command),
            principal=invocation.principal,
            created_at=invocation.created_at,
            started_at=invocation.started_at,
            ended_at=invocation.ended_at,
            exit_code=invocation.exit_code,
            abort_requested=invocation.abort_requested,
            log_path=log_path,
        )


class InvocationPage(BaseModel):
    """Some invocations, the newest first."""

    invocations: list[InvocationAnswer]
    next: int | None = Field(default=None, description="`before` of the next page; none on the last one.")


class ArtifactList(BaseModel):
    """The artifacts of an invocation."""

    artifacts: dict[str, int] = Field(description="The size of each in bytes, by its name.")


class ProjectAnswer(BaseModel):
    """A project that the sender may use."""

    name: str
    directory: str
    targets: list[str]
    default_target: str
    commands: list[str]


class ProjectList(BaseModel):
    """The projects that the sender may use."""

    projects: list[ProjectAnswer]


class Health(BaseModel):
    """How the server is."""

    status: str
    workers: int | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    status_code: int
    message: str
    data: Any = None
