"""One row of a table, or one chat, as one text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from coterie.errors import TextError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NamedText = tuple[str, str]
"""A document's name (never an absolute path) and its text."""

TEXT_COLUMNS = ("text", "content", "messages")
"""Where a row's text is looked for, in this order, when no column is asked for."""


def pick_column(columns: list[str], asked: str | None, where: str) -> str:
    """The column that holds the text.

    Args:
        columns: The names there are.
        asked: The name that was asked for, if any.
        where: What has these columns, for the message.

    Raises:
        TextError: no such column.
    """
    candidates = TEXT_COLUMNS if asked is None else (asked,)
    for column in candidates:
        if column in columns:
            return column
    wanted = f"'{asked}'" if asked is not None else " or ".join(f"'{name}'" for name in candidates)
    raise TextError(
        f"{where} has no column {wanted}; its columns are {', '.join(columns) or 'none'}: "
        "name one after a colon, as in 'DATA:COLUMN'"
    )


def row_text(
    row: object, asked: str | None, tokenizer: "PreTrainedTokenizerBase", where: str
) -> str:
    """The text of one row: a string as it is, or the text column of an object.

    Args:
        row: A text, or an object with a text column.
        asked: The column that was asked for, if any.
        tokenizer: Renders chat messages through its template.
        where: Which row it is, for the message.

    Raises:
        TextError: the column is missing, or holds neither a text nor chat messages.
    """
    if isinstance(row, str):
        return row
    if not isinstance(row, Mapping):
        raise TextError(f"{where} is {_kind(row)}; a row is a text or an object with a text column")
    column = pick_column(list(row), asked, where)
    value = row[column]
    if isinstance(value, str):
        return value
    # A list in the text column is a conversation.
    if isinstance(value, list) and value:
        return chat_text(value, tokenizer, f"{where}, column '{column}'")
    raise TextError(
        f"{where}, column '{column}' is {_kind(value)}; it must be a text or a list of messages: "
        "name another column after a colon, as in 'DATA:COLUMN'"
    )


def chat_text(messages: list[object], tokenizer: "PreTrainedTokenizerBase", where: str) -> str:
    """A conversation as the model sees it, through the tokenizer's own chat template.

    Args:
        messages: Objects with a role and a content.
        tokenizer: Has the template.
        where: Where the messages are, for the message of an error.

    Raises:
        TextError: the tokenizer has no template, or a message lacks a role or a content.
    """
    # Checked first: a template fails with a message about itself, not about the row.
    for message in messages:
        if not (isinstance(message, Mapping) and {"role", "content"} <= set(message)):
            found = ", ".join(message) if isinstance(message, Mapping) else _kind(message)
            raise TextError(
                f"{where} has a message of {found}; a message is an object with a role and "
                "a content: rewrite the rows that way, or name a column of plain text"
            )
    if not tokenizer.chat_template:
        raise TextError(
            f"{where} holds chat messages, and this model's tokenizer has no chat template: "
            "name a column of plain text, or use the tokenizer of the chat model"
        )
    rendered = str(tokenizer.apply_chat_template(messages, tokenize=False))  # type: ignore[arg-type]
    # Templates spell BOS out; packing decides about it, so it must not stand inside a document.
    bos = tokenizer.bos_token
    return rendered.removeprefix(bos) if isinstance(bos, str) else rendered


def _kind(value: object) -> str:
    names = {"NoneType": "null", "dict": "an object", "list": "a list", "bool": "a truth value"}
    name = type(value).__name__
    return "an empty list" if value == [] else names.get(name, f"of type {name}")
