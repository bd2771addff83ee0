"""Passages of a CSV table: one a row, each cell under the name of its column. Nothing in a cell is computed."""

import csv
import io
from collections.abc import Iterator

from pipeline.knowledge.splitting import made, names_in
from pipeline.passages import Passage

_DELIMITERS = ",;\t"
_MOST_COLUMNS = 200
_NAME_COLUMNS = frozenset(
    ("name", "synonym", "synonyms", "english", "chinese", "名称", "别名", "英文", "中文", "英文名", "中文名")
)


def table_passages(text: str) -> Iterator[Passage]:
    """Passages of a table with a row of column names; the first column says what a row is about.

    So do columns called as in ``_NAME_COLUMNS``: further names of it.

    Raises ValueError for what is no such table.
    """
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [name.strip() for name in next(rows, [])]
        if not 2 <= len(columns) <= _MOST_COLUMNS:
            raise ValueError(f"its first row names {len(columns)} columns; 2 to {_MOST_COLUMNS} can be read")
        begins = rows.line_num + 1
        for row in rows:
            place = f"line {begins}"
            begins = rows.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            said = [
                f"{column}: {cell}" if column else cell
                for column, cell in zip([*columns, *[""] * len(cells)], cells, strict=False)
                if cell
            ]
            named = [
                name
                for at, cell in enumerate(cells[: len(columns)])
                if at == 0 or columns[at].casefold() in _NAME_COLUMNS
                for name in names_in(cell)
            ]
            yield from made(place, cells[0], "\n".join(said), named)
    except csv.Error as error:
        raise ValueError(f"it is no CSV table at line {rows.line_num} ({error})") from None
