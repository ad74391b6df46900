"""What stages print: where a piece belongs, how much there may be, and what is shown of it.

The output of an attempt is one text, and a place in it a number of bytes of its UTF-8.
"""

from typing import Final

from services.deployment.rules.stages import OPEN, StageStatus
from shared.errors import IllegalTransition, OutputFull, OutputMixed, OutputOffset

LARGEST: Final = 64 * 1_048_576
"""Bytes that an attempt may print."""
LEAST_COUNTED: Final = 512
"""Bytes of them that each call takes, however little it appends: so many rows there are at most."""
SHOWN: Final = 262_144
"""Characters that are shown of the end of the output of a stage that is asked for alone."""
SHOWN_IN_PASSING: Final = 4_096
"""Characters that are shown of the end of appended output wherever a stage is told of."""
LONGEST_CHARACTER: Final = 4
"""Bytes of the longest character in UTF-8."""
CONTINUATION: Final = 0b10
"""The first two bits of a byte of UTF-8 that begins no character."""


def has_ended(attempt: int, newest: int, status: StageStatus) -> bool:
    """Say whether an attempt prints nothing more, at a stage whose `newest` one has `status`."""
    return attempt < newest or status not in OPEN


def check_printing(stage: str, status: StageStatus) -> None:
    """Raise IllegalTransition unless a stage runs, so that it can print."""
    if status is not StageStatus.IN_PROGRESS:
        raise IllegalTransition(
            subject=f"Stage {stage}",
            status=status,
            action="AppendStageOutput",
            allowed="UpdatePipelineStage with IN_PROGRESS"
            if status is StageStatus.PENDING
            else "TailStageOutput",
        )


def check_appendable(stage: str, reported: int) -> None:
    """Raise OutputMixed when `reported` bytes of output were set as a whole."""
    if reported:
        raise OutputMixed(
            stage=stage,
            call="UpdatePipelineStage",
            size=reported,
            remedy="Send all of it there again, or empty it there and append.",
        )


def check_replaceable(stage: str, appended: int) -> None:
    """Raise OutputMixed when `appended` bytes of output are there for good."""
    if appended:
        raise OutputMixed(
            stage=stage,
            call="AppendStageOutput",
            size=appended,
            remedy="Append what is missing, and leave output out of UpdatePipelineStage.",
        )


def is_repeat(stage: str, offset: int, length: int, size: int, counted: int) -> bool:
    """Say whether `length` bytes at `offset` claim to be there already, of `size` bytes.

    If not, they come next. `counted` is what those bytes have taken of the room there is. Raises
    OutputOffset for a gap and for what reaches beyond the end, and OutputFull when there is no
    room.
    """
    if offset > size:
        raise not_next(stage, offset, size, "there would be a gap")
    if offset < size:
        if offset + length > size:
            raise not_next(stage, offset, size, "the text begins before that and ends after it")
        return True
    if counted + length > LARGEST:
        left = max(LARGEST - counted, 0)
        raise OutputFull(stage=stage, size=size, limit=LARGEST, least=LEAST_COUNTED, left=left)
    return False


def not_next(stage: str, offset: int, size: int, problem: str) -> OutputOffset:
    """Return the refusal of a piece that does not go on with what is there."""
    return OutputOffset(stage=stage, offset=offset, size=size, problem=problem)


def character_at(text: bytes, place: int) -> int:
    """Return where the character begins that has the byte at `place`, in valid UTF-8."""
    while 0 < place < len(text) and text[place] >> 6 == CONTINUATION:
        place -= 1
    return place
