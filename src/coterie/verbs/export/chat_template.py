"""A chat template in the language of ollama (Go), taken from what the model's own one renders.

A template in Jinja cannot be translated, but what it puts around messages can be seen: it is
rendered with marked messages, and what stands between the marks becomes the Go template. That is
believed only where it renders further conversations exactly as the model's own does.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _ASSISTANT = "\u2042system\u2042", "\u2042user\u2042", "\u2042assistant\u2042"

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class MessageFrame:
    """What stands around messages.

    Attributes:
        opening: Before the first message where that is not the system's.
        system: Before and after a system message; None where the model takes none.
        user: Before and after a user's message.
        assistant: Before and after an answer; what is before asks for one.
    """

    opening: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]

    def rendered(self, messages: Messages) -> str:
        """A conversation, with the beginning of the next answer."""
        around = {"user": self.user, "assistant": self.assistant}
        if self.system is not None:
            around["system"] = self.system
        text = "" if messages[0]["role"] == "system" else self.opening
        for message in messages:
            before, after = around[message["role"]]
            text += before + message["content"] + after
        return text + self.assistant[0]

    def in_go(self) -> str:
        """The same as a template of ollama."""
        system = ""
        if self.system is not None:
            system = f'{{{{ if eq .Role "system" }}}}{_content(self.system)}{{{{ end }}}}'
        opening = ""
        if self.opening:
            first = '{{ if and (eq $i 0) (ne .Role "system") }}'
            opening = f"{first}{_literal(self.opening)}{{{{ end }}}}"
        user, assistant = _content(self.user), _content(self.assistant)
        return (
            "{{ range $i, $_ := .Messages }}"
            f"{opening}{system}"
            f'{{{{ if eq .Role "user" }}}}{user}{{{{ end }}}}'
            f'{{{{ if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}'
            f"{{{{ end }}}}{_literal(self.assistant[0])}"
        )


def frame_of(tokenizer: PreTrainedTokenizerBase) -> MessageFrame | None:
    """What the model's own template puts around messages; None where that is not all it does."""
    if not tokenizer.chat_template:
        return None
    try:
        frame = _seen(tokenizer)
    except Exception:  # templates raise anything, and those that do are not told
        return None
    alike = frame is not None and all(
        frame.rendered(one) == _rendered(tokenizer, one) for one in _conversations(frame)
    )
    return frame if alike else None


def _seen(tokenizer: PreTrainedTokenizerBase) -> MessageFrame | None:
    two = [_message("user", _USER), _message("assistant", _ASSISTANT), _message("user", _USER)]
    before, between, then, asking = _split(_rendered(tokenizer, two), two)
    asked = _rendered(tokenizer, two[:1]).partition(_USER)[2]
    closed = _rendered(tokenizer, two[:1], asks=False).partition(_USER)[2]
    after_user, begin = closed, asked.removeprefix(closed)
    if between != after_user + begin or asking != asked:
        return None
    answered = _rendered(tokenizer, two[:2], asks=False).partition(_ASSISTANT)[2]
    before_user = then.removeprefix(answered)
    if not before.endswith(before_user):
        return None
    system = None
    try:
        with_system = [_message("system", _SYSTEM), two[0]]
        opens, middle, _ = _split(_rendered(tokenizer, with_system), with_system)
        if middle.endswith(before_user):
            system = (opens, middle.removesuffix(before_user))
    except Exception:  # some refuse a system's message
        pass
    opening = before.removesuffix(before_user)
    return MessageFrame(opening, system, (before_user, after_user), (begin, answered))


def _conversations(frame: MessageFrame) -> list[Messages]:
    user, answer = _message("user", "What is it?"), _message("assistant", "It is that.")
    told = [[user], [user, answer, user], [user, answer, user, answer, user]]
    if frame.system is not None:
        system = _message("system", "Be brief.")
        told += [[system, user], [system, user, answer, user]]
    return told


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Messages, asks: bool = True) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    # llama.cpp puts a first token there by itself, where the tokenizer does.
    adds = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return str(text).removeprefix(str(tokenizer.bos_token)) if adds else str(text)


def _split(text: str, messages: Messages) -> list[str]:
    parts = []
    for message in messages:
        part, _, text = text.partition(message["content"])
        parts.append(part)
    return [*parts, text]


def _content(around: tuple[str, str]) -> str:
    return f"{_literal(around[0])}{{{{ .Content }}}}{_literal(around[1])}"


def _literal(text: str) -> str:
    """Text that stands for itself in a Go template."""
    return text.replace("{{", '{{"{{"}}')
