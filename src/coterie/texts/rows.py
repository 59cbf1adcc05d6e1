"""One row of a table, or one chat, as one text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coterie.errors import TextError
from coterie.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NamedText = tuple[str, str]
"""A document's name (never an absolute path) and its text."""

TEXT_COLUMNS = ("text", "content", "messages", "conversations")
"""Where a row's text is looked for, in this order, when no column is asked for."""

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"))
"""Columns of what was asked and what was answered, where a row has no text of its own."""

_ROLES = {"human": "user", "gpt": "assistant"}
"""Speakers of ShareGPT rows by the roles of chat templates; others keep their names."""


def pick_column(columns: list[str], asked: str | None, where: str) -> str:
    """The column that holds the text.

    Args:
        columns: The names there are.
        asked: The name that was asked for, if any.
        where: What has these columns, for the message.

    Raises:
        TextError: no such column, or several of that name.
    """
    candidates = TEXT_COLUMNS if asked is None else (asked,)
    for column in candidates:
        if columns.count(column) > 1:
            raise TextError(
                f"{where} has {columns.count(column)} columns '{column}': rename all but the one"
                " that holds the text"
            )
        if column in columns:
            return column
    wanted = f"'{asked}'" if asked is not None else " or ".join(f"'{name}'" for name in candidates)
    raise TextError(
        f"{where} has no column {wanted}; its columns are {', '.join(columns) or 'none'}: "
        "name one after a colon, as in 'DATA:COLUMN'"
    )


def needed_columns(columns: list[str], asked: str | None, where: str) -> list[str]:
    """The columns of a table that make its texts: one, or prompt and answer.

    Args:
        columns: The names there are.
        asked: The name that was asked for, if any.
        where: What has these columns, for the message.

    Raises:
        TextError: no such column.
    """
    if asked is None and not any(name in columns for name in TEXT_COLUMNS):
        for pair in PAIRS:
            if all(name in columns for name in pair):
                return list(pair)
    return [pick_column(columns, asked, where)]


@dataclass(eq=False)
class RowReader:
    """Turns rows of one source into texts; rows that hold null are left out and counted.

    Attributes:
        tokenizer: Renders chat messages through its template.
        column: The column that was asked for; None looks for it.
        nulls: Rows left out so far.
    """

    tokenizer: "PreTrainedTokenizerBase"
    column: str | None = None
    nulls: int = 0
    first_null: str = ""

    def named(self, name: str, row: object, where: str) -> Iterator[NamedText]:
        """The text of a row under a name; nothing where it is null.

        Args:
            name: Of the document.
            row: A text, or an object with a text column.
            where: Which row it is, for messages.

        Raises:
            TextError: the column is missing, or holds neither a text nor chat messages.
        """
        text = self.text(row, where)
        if text is not None:
            yield name, text

    def text(self, row: object, where: str) -> str | None:
        """The text of one row: a string as it is, or the text column of an object.

        Args:
            row: A text, or an object with a text column.
            where: Which row it is, for messages.

        Raises:
            TextError: as `named`.
        """
        if row is None:
            self._leave_out(f"{where} is null; a row is a text")
            return None
        if isinstance(row, str):
            return _whole(row, where)
        if not isinstance(row, Mapping):
            raise TextError(
                f"{where} is {_kind(row)}; a row is a text or an object with a text column"
            )
        if (pair := _pair(row, self.column)) is not None:
            return self._answered(*pair, where)
        column = pick_column(list(row), self.column, where)
        value, place = row[column], f"{where}, column '{column}'"
        if isinstance(value, str):
            return _whole(value, place)
        # A list in the text column is a conversation.
        if isinstance(value, list) and value:
            return _whole(chat_text(value, self.tokenizer, place), place)
        expected = f"{place} is {_kind(value)}; it must be a text or a list of messages"
        if value is None:
            self._leave_out(expected)
            return None
        raise TextError(f"{expected}: name another column after a colon, as in 'DATA:COLUMN'")

    def _answered(self, asked: object, answer: object, where: str) -> str | None:
        """What was asked and what was answered, as one text or as one conversation."""
        if asked is None or answer is None:
            self._leave_out(f"{where} has no prompt or no answer")
            return None
        if isinstance(asked, str) and isinstance(answer, str):
            between = "" if not asked or asked[-1:].isspace() or answer[:1].isspace() else "\n"
            return _whole(f"{asked}{between}{answer}", where)
        if isinstance(asked, list) and isinstance(answer, list):
            return _whole(chat_text([*asked, *answer], self.tokenizer, where), where)
        raise TextError(
            f"{where} has a prompt that is {_kind(asked)} and an answer that is {_kind(answer)};"
            " both must be texts, or both lists of messages"
        )

    def _leave_out(self, why: str) -> None:
        self.nulls += 1
        self.first_null = self.first_null or why


def chat_text(messages: list[object], tokenizer: "PreTrainedTokenizerBase", where: str) -> str:
    """A conversation as the model sees it, through the tokenizer's own chat template.

    Args:
        messages: Objects with a role and a content.
        tokenizer: Has the template.
        where: Where the messages are, for the message of an error.

    Raises:
        TextError: the tokenizer has no template, or a message lacks a role or a content, or the
            template refuses the conversation.
    """
    messages = [_message(one) for one in messages]
    # Checked first: a template fails with a message about itself, not about the row.
    for message in messages:
        if not (isinstance(message, Mapping) and {"role", "content"} <= set(message)):
            keys = ", ".join(map(str, message)) if isinstance(message, Mapping) else ""
            found = f"of {keys}" if keys else f"that is {_kind(message)}"
            raise TextError(
                f"{where} has a message {found}; a message is an object with a role and "
                "a content: rewrite the rows that way, or name a column of plain text"
            )
    if not tokenizer.chat_template:
        raise TextError(
            f"{where} holds chat messages, and this model's tokenizer has no chat template: "
            "name a column of plain text, or use the tokenizer of the chat model"
        )
    refused = f"{where} does not go through the chat template of this model's tokenizer"
    way_out = "change or take out such rows, or name a column of plain text"
    with foreign(refused, way_out=way_out, kind=TextError):
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False))  # type: ignore[arg-type]
    # Templates spell BOS out; packing decides about it, so it must not stand inside a document.
    bos = tokenizer.bos_token
    return rendered.removeprefix(bos) if isinstance(bos, str) else rendered


def _pair(row: Mapping[str, object], asked: str | None) -> tuple[object, object] | None:
    """Prompt and answer of a row that has both and no text of its own."""
    if asked is not None or any(column in row for column in TEXT_COLUMNS):
        return None
    return next(((row[a], row[b]) for a, b in PAIRS if a in row and b in row), None)


def _message(message: object) -> object:
    """A message of ShareGPT (`from`, `value`) as chat templates have it; others as they are."""
    if isinstance(message, Mapping) and {"from", "value"} <= set(message):
        speaker = str(message["from"])
        return {"role": _ROLES.get(speaker, speaker), "content": message["value"]}
    return message


def _whole(text: str, where: str) -> str:
    """The text, refused where it holds half of a character: no tokenizer reads that."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{where} holds half of a character (\\u{ord(text[error.start]):04x} at place"
            f" {error.start}, as of an emoji that was cut in two): correct or take out that row"
        ) from error
    return text


def _kind(value: object) -> str:
    names = {"NoneType": "null", "dict": "an object", "list": "a list", "bool": "a truth value"}
    name = type(value).__name__
    return "an empty list" if value == [] else names.get(name, f"of type {name}")
