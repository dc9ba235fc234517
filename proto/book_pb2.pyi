from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BookInfoParams(_message.Message):
    __slots__ = ("book_id",)
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    book_id: int
    def __init__(self, book_id: _Optional[int] = ...) -> None: ...

class BookInfo(_message.Message):
    __slots__ = ("book_id", "book_name")
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_NAME_FIELD_NUMBER: _ClassVar[int]
    book_id: int
    book_name: str
    def __init__(self, book_id: _Optional[int] = ..., book_name: _Optional[str] = ...) -> None: ...

class BookListParams(_message.Message):
    __slots__ = ("page", "limit")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    page: int
    limit: int
    def __init__(self, page: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class BookList(_message.Message):
    __slots__ = ("book_list",)
    BOOK_LIST_FIELD_NUMBER: _ClassVar[int]
    book_list: _containers.RepeatedCompositeFieldContainer[BookInfo]
    def __init__(self, book_list: _Optional[_Iterable[_Union[BookInfo, _Mapping]]] = ...) -> None: ...
