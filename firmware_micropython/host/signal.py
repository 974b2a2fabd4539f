"""The recording a simulated kit measures: each line's values hold up to its end_s. Read line by line."""

COLUMNS = "end_s,cf1_a,atm_a,n03_a,n05_a,n10_a,n25_a,n50_a,n100_a,cf1_b,atm_b,n03_b,n25_b,temp,rh"


class Signal:
    """Time may only move forward. Before the first line it holds too, and after the last the last does."""

    def __init__(self, path):
        self._file = open(path)  # noqa: SIM115  open as long as the kit lives
        self._index = {name: i for i, name in enumerate(self._file.readline().strip().split(","))}
        if sorted(self._index) != sorted(COLUMNS.split(",")):
            raise ValueError("signal file: first line must be " + COLUMNS)
        self._row = None
        self._end = self._index["end_s"]

    def at(self, t):
        """The line's integers (None where empty) at that epoch second."""
        while self._row is None or self._row[self._end] < t:
            line = self._file.readline().strip()
            if not line:
                if self._row is None:
                    raise ValueError("signal file: no lines")
                break
            self._row = [int(v) if v else None for v in line.split(",")]
        return self._row

    def pick(self, names):
        """Positions of these columns, None for one that the file does not have."""
        return [self._index.get(name) for name in names]
