//! From raw files to versioned data sets: ingest, split, statistics, and the Parquet tables of every stage.
