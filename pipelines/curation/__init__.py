"""Source tables → decoded, split, scored, captioned clips → Parquet shards."""
