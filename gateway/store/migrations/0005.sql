-- Version 5: rows that come one by one are gathered before they become part of a chunk.

-- Each in the order of its receipt and in no index, so that many of a commit share a page. What their hours, intervals,
-- counters and revision come to is written when they are gathered.
CREATE TABLE fresh (
    rev           INTEGER PRIMARY KEY, -- above `revision` and every other
    kit           INTEGER NOT NULL,
    boot          INTEGER NOT NULL,
    hour          INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    time_ms       INTEGER NOT NULL,
    time_error_s  INTEGER,
    received_ms   INTEGER NOT NULL,
    clock_error_s INTEGER,
    columns       INTEGER NOT NULL,
    width         INTEGER NOT NULL,
    rows          BLOB NOT NULL
);

-- The same as chunks of one row each.
CREATE VIEW fresh_chunk AS SELECT
    -rev AS id, rev, kit, boot, hour, seq AS seq_from, seq AS seq_to, 1 AS row_count, time_ms AS time_from_ms,
    time_ms AS time_to_ms, 0 AS time_source, time_error_s, NULL AS offset_s, received_ms, columns, width, rows,
    clock_error_s, 0 AS shift_ms, NULL AS waits
FROM fresh;

-- `width` of a chunk is negative where its rows are compressed (chunks.py).

-- 1: of an hour that still grows; gathered rows are added to it, and no index may change with each of them.
ALTER TABLE chunk ADD COLUMN open INTEGER;
CREATE INDEX chunk_open ON chunk (kit) WHERE open IS NOT NULL;
DROP INDEX chunk_seq;
CREATE INDEX chunk_seq ON chunk (kit, boot, seq_to) WHERE open IS NULL; -- copies are of the newest rows
DROP INDEX chunk_hour;
CREATE INDEX chunk_hour ON chunk (kit, hour);
