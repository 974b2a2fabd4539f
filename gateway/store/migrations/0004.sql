-- Version 4: calibrations by quantity, with their texts, and what an operator has voided.

-- Which calibration of a quantity a kit has from an hour on, until its next line; NULL: the configured one, or none.
CREATE TABLE assignment_of_quantity (
    kit        INTEGER NOT NULL REFERENCES kit (id),
    quantity   TEXT NOT NULL,
    from_hour  INTEGER NOT NULL,
    correction TEXT,                 -- its label: of the corrections of the program, or of `calibration`
    PRIMARY KEY (kit, quantity, from_hour)
) WITHOUT ROWID;
INSERT INTO assignment_of_quantity (kit, quantity, from_hour, correction)
    SELECT kit, 'pm25_ugm3', from_hour, correction FROM assignment;
DROP TABLE assignment;
ALTER TABLE assignment_of_quantity RENAME TO assignment;

-- Calibrations that an operator gave: labels of cells, fitted records. Never changed: another text has another label.
CREATE TABLE calibration (
    label    TEXT PRIMARY KEY,
    record   TEXT NOT NULL,          -- TOML as given
    added_ms INTEGER NOT NULL,
    added_by TEXT NOT NULL
) WITHOUT ROWID;

-- Readings whose interval's middle lies in a span are not used: of all channels, or of one channel or quantity. A line
-- is never deleted: what was undone says who did it, and why.
CREATE TABLE void (
    id          INTEGER PRIMARY KEY,
    kit         INTEGER NOT NULL REFERENCES kit (id),
    what        TEXT NOT NULL,       -- name of a channel or of a derived quantity; empty: all
    from_ms     INTEGER NOT NULL,
    to_ms       INTEGER NOT NULL,    -- not included
    reason      TEXT NOT NULL,
    made_by     TEXT NOT NULL,
    made_ms     INTEGER NOT NULL,
    undo_reason TEXT,
    undone_by   TEXT,
    undone_ms   INTEGER
);
CREATE INDEX void_kit ON void (kit);
