-- The store, version 1. Times are ms or whole hours since 1970 UTC; `rev` is the one counter that only grows.

CREATE TABLE revision (value INTEGER NOT NULL);
INSERT INTO revision VALUES (0);

CREATE TABLE kit (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    about      BLOB,                 -- last birth certificate as received
    up         INTEGER,              -- last status: 1 connected, 0 gone
    heard_ms   INTEGER NOT NULL      -- when the gateway last received anything of it
);

-- What is known of one start of one kit.
CREATE TABLE boot (
    kit        INTEGER NOT NULL REFERENCES kit (id),
    boot       INTEGER NOT NULL,
    first_seq  INTEGER NOT NULL,     -- every seq below was never held by the kit or is settled: receipts pass it
    offset_s   INTEGER,              -- epoch minus uptime, from the lowest row with quality 2; places rows without a clock
    offset_seq INTEGER,
    heard_ms   INTEGER NOT NULL,
    PRIMARY KEY (kit, boot)
) WITHOUT ROWID;

-- Merged intervals of seq that are stored: decides what is new, gives the receipts, outlives pruned chunks.
CREATE TABLE cover (
    kit        INTEGER NOT NULL,
    boot       INTEGER NOT NULL,
    seq_from   INTEGER NOT NULL,
    seq_to     INTEGER NOT NULL,
    PRIMARY KEY (kit, boot, seq_from)
) WITHOUT ROWID;

CREATE TABLE column_set (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);

-- The log of raw readings: immutable packed rows of one kit, boot and hour whose time is known in the same way.
CREATE TABLE chunk (
    id           INTEGER PRIMARY KEY,
    rev          INTEGER NOT NULL UNIQUE,
    kit          INTEGER NOT NULL REFERENCES kit (id),
    boot         INTEGER NOT NULL,
    hour         INTEGER,            -- NULL: waits, without a time or held because it lies in the future
    seq_from     INTEGER NOT NULL,
    seq_to       INTEGER NOT NULL,
    row_count    INTEGER NOT NULL,
    time_from_ms INTEGER,
    time_to_ms   INTEGER,
    time_source  INTEGER NOT NULL,   -- 0 kit, 1 anchor, 2 receipt
    time_error_s INTEGER,
    offset_s     INTEGER,            -- time is (up + offset_s) where set, else t
    received_ms  INTEGER NOT NULL,
    columns      INTEGER NOT NULL REFERENCES column_set (id),
    width        INTEGER NOT NULL,   -- bytes a value: 4 or 8
    rows         BLOB NOT NULL       -- little-endian, row after row; the lowest integer of the width is null
);
CREATE INDEX chunk_hour ON chunk (kit, hour, time_to_ms, row_count); -- covers what pages ask of every kit
CREATE INDEX chunk_seq ON chunk (kit, boot, seq_to); -- copies are of the newest rows

CREATE TABLE dead_letter (
    id          INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE, -- of topic, reason and payload: copies of one message are counted, not kept
    received_ms INTEGER NOT NULL,
    topic       TEXT NOT NULL,
    kit         TEXT,
    boot        INTEGER,              -- with seq_from and seq_to where they could be read: counted as held for receipts
    seq_from    INTEGER,
    seq_to      INTEGER,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    payload     BLOB NOT NULL,
    copies      INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX dead_letter_boot ON dead_letter (kit, boot, seq_from);

CREATE TABLE counter (
    kit   INTEGER NOT NULL,           -- 0: of no kit
    name  TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (kit, name)
) WITHOUT ROWID;

-- Names and versions of what the derived records were made by; another configuration derives all of them again.
CREATE TABLE recipe (label TEXT NOT NULL);
INSERT INTO recipe VALUES ('');

-- Hours to derive again; set in the transaction that stores their rows.
CREATE TABLE dirty (
    kit  INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    PRIMARY KEY (kit, hour)
) WITHOUT ROWID;

CREATE TABLE air (
    kit    INTEGER NOT NULL REFERENCES kit (id),
    hour   INTEGER NOT NULL,
    rev    INTEGER NOT NULL,          -- the highest of its rows
    record BLOB NOT NULL,             -- MessagePack, see derived.py
    UNIQUE (kit, hour)
);
CREATE UNIQUE INDEX air_rev ON air (rev);

CREATE TABLE hour (
    kit    INTEGER NOT NULL REFERENCES kit (id),
    hour   INTEGER NOT NULL,
    rev    INTEGER NOT NULL,
    record BLOB NOT NULL,             -- JSON of records.HourRecord
    UNIQUE (kit, hour)
);
CREATE UNIQUE INDEX hour_rev ON hour (rev);

CREATE TABLE site_index (
    site   TEXT NOT NULL,
    scheme TEXT NOT NULL,
    hour   INTEGER NOT NULL,
    rev    INTEGER NOT NULL,
    record BLOB NOT NULL,             -- JSON of records.IndexRecord
    UNIQUE (site, scheme, hour)
);
CREATE UNIQUE INDEX site_index_rev ON site_index (rev);
