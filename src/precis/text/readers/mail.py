"""Mail (EML) and web pages saved as mail (MHTML)."""

from __future__ import annotations

import contextlib
import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage

from precis.text.readers.html import Html
from precis.text.readers.plain import decode
from precis.text.readers.reader import Pages, Reader, UnreadableError

_HEADERS = ("From", "To", "Cc", "Date", "Subject")


class Mail(Reader):
    """Who wrote to whom, when and of what; then the text; attachments are told of."""

    name = "EML"
    suffixes = (".eml", ".mht", ".mhtml")

    def pages(self, data: bytes) -> list[str]:
        """Give the whole message as one page."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole message as one page, and tell of what is attached to it."""
        message = email.message_from_bytes(data, policy=email.policy.default)
        if not isinstance(message, EmailMessage) or not message.keys():
            raise UnreadableError("a mail without headers; save it again from the mail program")
        try:
            found = list(_parts(message))
        except (LookupError, ValueError, KeyError) as cause:
            raise UnreadableError(f"a damaged mail ({cause}); save it again as EML") from cause
        texts = [text for text, _ in found if text.strip()]
        notices = [notice for _, notice in found if notice]
        if message.get_content_type() != "multipart/related":  # a saved page has headers of no interest
            texts.insert(0, _headers(message))
        if message.defects and not any(text.strip() for text in texts[1:] or texts):
            raise UnreadableError("a damaged mail without text; save it again as EML")
        return Pages(["\n\n".join(texts)], notices)


def _headers(message: EmailMessage) -> str:
    """Return the headers that a reader of mail sees."""
    return "\n".join(f"{name}: {' '.join(str(message[name]).split())}" for name in _HEADERS if message[name])


def _parts(message: EmailMessage) -> Iterator[tuple[str, str]]:
    """Give the texts of a message in order, each with a notice, either of them empty where there is none."""
    body = message.get_body(("plain", "html"))
    chosen = _text_of(body) if isinstance(body, EmailMessage) else ""
    if not chosen.strip():
        body = message.get_body(("html",))
        chosen = _text_of(body) if isinstance(body, EmailMessage) else ""
    yield chosen, ""
    if message.get_content_type() == "multipart/related":  # the rest are the page's pictures and styles
        return
    for part in message.iter_attachments():
        if not isinstance(part, EmailMessage) or (
            part.get_content_disposition() == "inline" and part.get("Content-ID")
        ):
            continue  # a picture within the text
        yield from _attachment(part)


def _attachment(part: EmailMessage) -> Iterator[tuple[str, str]]:
    kind = part.get_content_type()
    if kind == "message/rfc822":
        inner = part.get_content()
        yield f"Forwarded message\n\n{_headers(inner)}", ""
        yield from _parts(inner)
    elif kind == "text/plain" and part.get_content_disposition() != "attachment":
        yield _text_of(part), ""
    else:
        name = part.get_filename() or f"a part without a name ({kind})"
        yield "", f"its attachment is not read: {name}; save it and give it beside the mail"


def _text_of(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return str(part.get_content())
    text = _decoded(content, part.get_content_charset())
    if part.get_content_type() == "text/html":
        # What the mail says of the encoding counts before what the page says.
        return "\n\n".join(Html().pages(b"\xef\xbb\xbf" + text.encode()))
    return text


def _decoded(content: bytes, declared: str | None) -> str:
    """Return text in the encoding that the mail declares; many a mail declares none, or a wrong one."""
    with contextlib.suppress(UnicodeDecodeError, LookupError):
        return content.decode(declared or "ascii")
    return decode(content, "windows-1252")
